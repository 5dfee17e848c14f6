/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_main.c: libFuzzer's entry points. The compiled modules under test are linked into this
 * program, sanitizers and all, and given to an embedded interpreter as built-in modules: it runs
 * their set-up once and is not used afterwards.
 */
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>

#ifndef FUZZ_TARGET
#error "FUZZ_TARGET: fuzz_query or fuzz_response"
#endif

extern int FUZZ_TARGET(const uint8_t *data, size_t size);

#define MODULES(X) \
    X("fastdns.", _name) X("fastdns.", _wire) X("fastdns.", _response) X("fastdns.", _compress) \
    X("fastdns.", _answer) X("fastdns.coordinator.", _rotation)
#define DECLARE(package, name) extern PyObject *PyInit_##name(void);
MODULES(DECLARE)
DECLARE("", _targets)

/* A package of built-in modules is nothing that an import finds by itself. */
static const char *const SET_UP =
    "import importlib.machinery as m, importlib.util as u, sys, types\n"
    "for name in ('fastdns', 'fastdns.coordinator'):\n"
    "    package = sys.modules[name] = types.ModuleType(name)\n"
    "    package.__path__ = []\n"
    "def load(name):\n"
    "    spec = m.ModuleSpec(name, m.BuiltinImporter, origin='built-in')\n"
    "    module = sys.modules[name] = u.module_from_spec(spec)\n"
    "    spec.loader.exec_module(module)\n"
    "for name in ('_name', '_wire', '_response', '_compress', '_answer', 'coordinator._rotation'):\n"
    "    load('fastdns.' + name)\n"
    "load('_targets')\n";

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
#define REGISTER(package, name) PyImport_AppendInittab(package #name, PyInit_##name);
    MODULES(REGISTER)
    PyImport_AppendInittab("_targets", PyInit__targets);
    Py_InitializeEx(0);
    if (PyRun_SimpleString(SET_UP) != 0)
        exit(1);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return FUZZ_TARGET(data, size);
}
