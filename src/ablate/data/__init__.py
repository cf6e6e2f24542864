"""Data: readers of each file format, arrays cached once, tensors on the device, mini-batches. One module a task."""
