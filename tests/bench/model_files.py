"""The files of a model, for scripts that measure reading them."""
import os


def files_of(model):
    if os.path.isfile(model):
        return [model]
    weights = (".safetensors", ".gguf", ".lade")
    return sorted(os.path.join(model, f) for f in os.listdir(model) if f.endswith(weights))


def forget(files):
    """Takes files out of the page cache."""
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
