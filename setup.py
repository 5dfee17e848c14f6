# SPDX-License-Identifier: Apache-2.0
"""The compiled modules: one list of extensions, one dict of Cython directives.

``FASTDNS_DEBUG=1`` builds with bounds checks, assertions and the crash question that
the fault tests ask for, beside the release build, never in place (``make debug``).
"""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("FASTDNS_DEBUG") == "1"
IN_PLACE = "--inplace" in sys.argv or "editable_wheel" in sys.argv
if DEBUG and IN_PLACE:
    sys.exit("setup.py: a debug build in place would pass for a release build; see `make debug`")

DIRECTIVES: dict[str, object] = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": DEBUG,
    "embedsignature": True,
}

CFLAGS = ["-std=gnu11", "-O2", "-g0", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Wno-unused-parameter"]
# Code and constants of a module in one segment: 60 modules would have 0.5 MiB of half-used pages otherwise.
LDFLAGS = ["-Wl,-z,noseparate-code"]
MACROS: list[tuple[str, str | None]] = [("_GNU_SOURCE", None)]
if DEBUG:
    CFLAGS += ["-O1", "-g"]
    MACROS.append(("FASTDNS_DEBUG", "1"))

# Every .pyx under fastdns/ is an extension of its own. The wrappers of fastdns/_testing are for
# tests: a wheel goes without, and so does `make run` (FASTDNS_TESTING=0).
TESTING = os.environ.get("FASTDNS_TESTING", "1" if DEBUG or "--inplace" in sys.argv else "0") == "1"
MODULES = sorted(str(path) for path in Path("fastdns").rglob("*.pyx"))
if not TESTING:
    MODULES = [path for path in MODULES if not path.startswith("fastdns/_testing/")]

EXTENSIONS = [
    Extension(
        name=path.removesuffix(".pyx").replace("/", "."),
        sources=[path],
        include_dirs=["fastdns"],
        depends=sorted(str(header) for header in Path("fastdns").glob("*.h")),
        extra_compile_args=CFLAGS,
        extra_link_args=LDFLAGS,
        define_macros=MACROS,
    )
    for path in MODULES
]

setup(
    ext_modules=cythonize(
        EXTENSIONS,
        compiler_directives=DIRECTIVES,
        nthreads=os.cpu_count() or 1,
        build_dir=f"build/cython{'-debug' if DEBUG else ''}",
    ),
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
