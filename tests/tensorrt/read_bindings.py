"""Run by a process of its own, since one process can hold one version: import the real bindings over the shim, and
print what each class has, as JSON.

    python read_bindings.py SHIM_FOLDER MAJOR BINDINGS_FOLDER
"""

import ctypes
import json
import sys


def main() -> None:
    shims, major, bindings = sys.argv[1:4]
    for library in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        ctypes.CDLL(f"{shims}/lib{library}.so.{major}", mode=ctypes.RTLD_GLOBAL)
    sys.path.insert(0, bindings)
    import tensorrt_bindings as trt

    classes = {}
    for name in dir(trt):
        thing = getattr(trt, name)
        if isinstance(thing, type):
            members = {member: str(getattr(thing, member, "").__doc__ or "") for member in dir(thing)}
            classes[name] = {member: text.strip().split("\n")[0] for member, text in members.items()}
    print(json.dumps({"version": trt.__version__, "names": dir(trt), "classes": classes}))


if __name__ == "__main__":
    main()
