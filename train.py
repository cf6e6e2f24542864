"""Train one run, or with -m a sweep.

python train.py task=cifar dropout=0.3
python train.py -m task=cifar dropout=0.2,0.3,0.5 seeds=3
python train.py -m experiment=cifar/dropout
"""

from retable.errors import ending_the_program, terminated_as_by_ctrl_c

with ending_the_program(), terminated_as_by_ctrl_c():
    from retable.main import main  # by these words Hydra's completion knows a script of its own: @hydra.main

if __name__ == "__main__":
    main()
