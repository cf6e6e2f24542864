"""What an error's words are taken for."""

import errno

import pytest
import torch

from retable.errors import RetableError, out_of_memory
from retable.run.result import describe


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of ..."),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be ..."),
        RuntimeError("CUDA error: out of memory"),  # at the instantiation of a graph, and by older versions
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
        # What torch says in place of the first above where it asks NVML for other processes' share and gets no answer.
        RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "../c10/cuda/CUDACachingAllocator.cpp":995, ...'),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you ..."),
    ],
    ids=str,
)
def test_all_forms_of_want_of_memory_are_known(error):
    assert out_of_memory(error) is error
    later = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    later.__context__ = error
    assert out_of_memory(later) is error
    assert describe(later) == describe(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: operation not permitted when stream is capturing"),
        RetableError("data.root: a folder named out of memory"),
        ValueError("out of memory"),  # no library says it so
    ],
    ids=str,
)
def test_other_faults_are_none(error):
    assert out_of_memory(error) is None


def test_errors_that_go_round_in_a_circle_come_to_an_end():
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__context__, other.__context__ = other, one
    assert out_of_memory(one) is None
