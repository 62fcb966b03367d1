#!/usr/bin/env python3
"""Checks what no compiler does: who includes whom (layers.txt), where outside headers may appear (foreign.txt), that
link lists say the same, and that file names are unique and begin with their module. Prints each finding as
file:line: text and exits 1 if there is any.

    tests/lint/lint.py [--self-test]
"""
import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')
# Headers of the C and POSIX libraries that are free to use anywhere.
C_HEADERS = set("""assert ctype errno fenv float inttypes limits locale math setjmp stdalign stdarg stdatomic stdbool
stddef stdint stdio stdlib stdnoreturn string strings""".split())
# malloc and friends live in host/base alone (STYLE 10); clocks and threads in env. RocksDB, which has threads and a
# clock of its own, is waited for in host/store.
CALLS = [
    (re.compile(r"(?<![\w.>])(malloc|calloc|realloc|free|strdup|aligned_alloc|posix_memalign)\s*\("), ("host/base",)),
    (re.compile(r"(?<![\w.>])(pthread_create)\s*\("), ("host/env",)),
    (re.compile(r"(?<![\w.>])(clock_gettime|gettimeofday|nanosleep|usleep)\s*\("), ("host/env", "host/base", "host/store")),
]


def read_table(path):
    table = {}
    for line in path.read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            key, _, values = line.partition(":")
            table[key.strip()] = values.split()
    return table


def module_of(path, layers):
    """The module a repository path belongs to, or None."""
    best = None
    for module in layers:
        if path == module or path.startswith(module + "/"):
            if best is None or len(module) > len(best):
                best = module
    return best


def check_include(path, name, quoted, layers, foreign):
    """The complaint about one include of the file `path`, or None."""
    module = module_of(path, layers)
    if name.endswith(".pb-c.h"):
        name, quoted = "kith/" + name, False
    if quoted:
        target = module_of(name, layers)
        if target is None:
            if name.startswith(("tests/", "bench/")):
                return f"product code includes {name}" if module else None
            return f'"{name}" is not written from the repository root'
        if module is None or target == module or target in layers[module]:
            return None
        return f"{module} may not include {target} (tests/lint/layers.txt)"
    if name.removesuffix(".h") in C_HEADERS:
        return None
    for prefix, homes in foreign.items():
        if name.startswith(prefix):
            if module is None or any(path.startswith(home + "/") for home in homes):
                return None
            return f"<{name}> may be included only in {', '.join(homes)} (tests/lint/foreign.txt)"
    if module is None or name.startswith(("sys/", "linux/", "net", "arpa/", "cpuid")) and module in (
            "host/env", "host/base", "host/role", "host/cli", "host/http", "host/grpc"):
        return None
    return f"<{name}> is in no list of tests/lint/foreign.txt"


def strip_comments(text):
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
    text = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)
    return re.sub(r"//[^\n]*", "", text)


def check_calls(path, text, layers):
    module = module_of(path, layers)
    if module is None:
        return
    for number, line in enumerate(strip_comments(text).splitlines(), 1):
        for pattern, homes in CALLS:
            match = pattern.search(line)
            if match and module not in homes and not path.endswith((".cu", ".cuh")):
                yield number, f"{match.group(1)} may be called only in {', '.join(homes)}"


def sources():
    for folder in ("host", "kernels", "transport", "tests", "bench"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".c", ".h", ".cu", ".cuh", ".inc"):
                yield path


def check_links(layers):
    """Link lists of kith_module(...) must stay inside the allow-list."""
    names = {module.split("/")[-1]: module for module in layers}
    for path in sorted(ROOT.glob("host/*/CMakeLists.txt")) + sorted(ROOT.glob("*/CMakeLists.txt")):
        text = path.read_text()
        for match in re.finditer(r"kith_module\((\w+)([^)]*)\)", text):
            module = names.get(match.group(1))
            if module is None:
                continue
            for link in re.findall(r"kith_(\w+)", match.group(2)):
                target = names.get(link)
                if target and target != module and target not in layers[module]:
                    yield path, 1, f"kith_{match.group(1)} links kith_{link}, which layers.txt does not allow"


def lint():
    layers, foreign = read_table(HERE / "layers.txt"), read_table(HERE / "foreign.txt")
    findings = []
    order = list(layers)
    for module, allowed in layers.items():
        for name in allowed:
            if name not in order or order.index(name) >= order.index(module):
                findings.append((HERE / "layers.txt", 1, f"{module}: {name} is not below it"))
    names = collections.defaultdict(list)
    count = 0
    for path in sources():
        count += 1
        relative = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".c", ".h"):
            names[path.name].append(relative)
        for number, line in enumerate(text.splitlines(), 1):
            match = INCLUDE.match(line)
            if match:
                complaint = check_include(relative, match.group(2), match.group(1) == '"', layers, foreign)
                if complaint:
                    findings.append((path, number, complaint))
        findings += [(path, number, complaint) for number, complaint in check_calls(relative, text, layers)]
    for name, places in names.items():
        if len(places) > 1:
            findings.append((ROOT / places[0], 1, f"{name} is not unique: {', '.join(places)}"))
    findings += list(check_links(layers))
    return count, findings


def self_test():
    """The linter finds what it is for."""
    layers, foreign = read_table(HERE / "layers.txt"), read_table(HERE / "foreign.txt")
    assert check_include("host/base/a.c", "host/env/env.h", True, layers, foreign)
    assert not check_include("host/env/a.c", "host/base/err.h", True, layers, foreign)
    assert check_include("host/shard/a.c", "rocksdb/c.h", False, layers, foreign)
    assert not check_include("host/store/a.c", "rocksdb/c.h", False, layers, foreign)
    assert check_include("host/shard/a.c", "pthread.h", False, layers, foreign)
    assert check_include("host/index/a.c", "kernels/cuda/x.h", True, {**layers, "host/index": []}, foreign)
    assert check_include("host/shard/a.c", "shard.h", True, layers, foreign)
    assert list(check_calls("host/shard/a.c", "int *p = malloc(4);", layers))
    assert not list(check_calls("host/shard/a.c", "/* malloc(4) */ kith_free(p); x->free(p);", layers))


if __name__ == "__main__":
    self_test()
    if "--self-test" in sys.argv:
        sys.exit(0)
    file_count, found = lint()
    for path, number, complaint in found:
        print(f"{path.relative_to(ROOT)}:{number}: {complaint}")
    print(f"lint: {file_count} files, {len(found)} findings")
    sys.exit(1 if found else 0)
