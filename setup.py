# SPDX-License-Identifier: Apache-2.0
"""The compiled modules: one list of extensions, one dict of Cython directives.

``FASTDNS_DEBUG=1`` builds with bounds checks, assertions and the crash question that
the fault tests ask for (docs/development.md).
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("FASTDNS_DEBUG") == "1"

DIRECTIVES: dict[str, object] = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": DEBUG,
    "embedsignature": True,
}

CFLAGS = ["-std=gnu11", "-O2", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Wno-unused-parameter"]
MACROS: list[tuple[str, str | None]] = [("_GNU_SOURCE", None)]
if DEBUG:
    CFLAGS += ["-O1", "-g"]
    MACROS.append(("FASTDNS_DEBUG", "1"))

# Every .pyx under fastdns/ is an extension of its own; _testing.pyx is built but not put in wheels.
MODULES = sorted(str(path) for path in Path("fastdns").rglob("*.pyx"))

EXTENSIONS = [
    Extension(
        name=path.removesuffix(".pyx").replace("/", "."),
        sources=[path],
        include_dirs=["fastdns"],
        depends=sorted(str(header) for header in Path("fastdns").glob("*.h")),
        extra_compile_args=CFLAGS,
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
    )
)
