"""What holds for every override: of values from YAML, of grids, of the shorthand, and of whatever anybody may type."""

import itertools
import math

from retable.config.compose import Composer
from retable.config.overrides import override_text, translate
from retable.errors import ConfigError
from retable.experiment.grid import expand
from tests.searching import example, few, given, is_one_line, many, some

COMPOSER = Composer()
words = some.from_regex(r"[a-z][a-z_]{0,5}x", fullmatch=True)  # none of null, true, inf, range
scalars = some.none() | some.booleans() | some.integers(-(2**70), 2**70) | some.floats(allow_nan=False) | words
within = scalars | some.text(max_size=5).filter(lambda text: "${" not in text)
values = scalars | some.recursive(
    some.lists(within, max_size=3),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@many
@given(values)
@example(["A²"])
@example(["a\n", "null", "1", "", "a b", "it's", "\\"])
@example([{"ax": ["a,b"]}])
def test_a_value_from_yaml_comes_back_from_hydras_grammar(value):
    (override,) = COMPOSER.parse([override_text("key", value)])
    assert not override.is_sweep_override()
    found = override.value()
    assert found == value
    assert type(found) is type(value) or isinstance(value, str)


# What an override is made of, right and wrong; Hydra's own functions among it.
PIECES = """
task model model=cnn data sample data=sample seed seeds dropout dropout.p optimizer.lr model.width +x ++x ~seed ~x
@ . : , = == ( ) [ ] { } ' " \\ ${seed} ${oc.env:HOME} ${ ${x} $ range( choice( interval( glob( shuffle( sort( tag(
str( int( json_str( extend_list( 0 1 -1 0.3 1e400 nan inf 1e999999999 null true none _target_ hydra.run.dir trainer
/dev/null ../.. ??? * # % é --help -m
""".split()  # noqa: SIM905
PIECES += ["\n", " ", "  ", "\t", "\0", "\x1b", "\ud800", "a" * 3000, "[" * 500]
typed = some.lists(some.sampled_from(PIECES) | words | some.text(max_size=3), min_size=1, max_size=8).map("".join)


@many
@given(typed)
@example("optimizer.lr=" + "[" * 3000)
@example("seed=${" * 40)
def test_whatever_is_typed_is_an_override_or_refused_in_one_line(text):
    try:
        COMPOSER.compose(["task=mnist", "data=sample", text])
    except ConfigError as error:
        is_one_line(error)


@many
@given(some.lists(typed | some.sampled_from(["dropout=none", "+dropout=0.2,null"]), max_size=3))
def test_the_shorthand_is_translated_once_and_nothing_else(texts):
    once = translate(texts)
    assert translate(once) == once
    assert len(once) == len(texts)
    for before, after in zip(texts, once, strict=True):
        assert before == after or before.lstrip("+").startswith("dropout=")


choices = some.fixed_dictionaries(
    {},
    optional={
        "seed": some.lists(some.integers(0, 9), min_size=1, max_size=3, unique=True),
        "dropout": some.lists(some.sampled_from([0.1, 0.2, 0.5]), min_size=1, max_size=3, unique=True),
        "optimizer.lr": some.lists(some.floats(1e-5, 1), min_size=1, max_size=3, unique=True),
        "model.width": some.lists(some.integers(1, 99), min_size=1, max_size=2, unique=True),
    },
)


@few
@given(choices, some.randoms(use_true_random=False))
def test_a_grid_is_the_product_of_its_choices_in_any_order(chosen, chance):
    keys = list(chosen)
    chance.shuffle(keys)
    arguments = [f"{key}={','.join(map(str, chosen[key]))}" for key in keys]
    points = expand(["task=mnist", "data=sample", *arguments], COMPOSER).points
    found = [COMPOSER.compose(point).config for point in points]
    wanted = [dict(zip(keys, values, strict=True)) for values in itertools.product(*(chosen[key] for key in keys))]
    assert len(points) == math.prod(map(len, chosen.values()))

    def read(config):
        at = {"seed": config["seed"], "dropout": config["dropout"]["p"], "optimizer.lr": config["optimizer"]["lr"]}
        at["model.width"] = config["model"].get("width")
        return {key: at[key] for key in keys}

    assert [read(config) for config in found] == wanted
