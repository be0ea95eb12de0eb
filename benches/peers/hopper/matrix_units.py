"""Tiles of numbers that expose how a matrix instruction adds, and files of what it made of them.

    python matrix_units.py generate IN [--tiles T] [--group-tiles G]    # of each kind; matrix_units IN OUT runs them
    python matrix_units.py pack IN OUT JSON --kinds-each N --about TEXT # a subset as reference cases

Needs numpy. The numbers come from a fixed seed: the same arguments give the same file.
"""

import argparse
import json

import numpy as np

SEED = 20261127


class Float:
    """A float format in codes of `size` bytes: exponent and mantissa bits; tf32 lies in the upper 19 of 32."""

    def __init__(self, size, exponent, mantissa, specials="ieee", low=0):
        self.size, self.exponent, self.mantissa, self.low = size, exponent, mantissa, low
        self.bias = (1 << (exponent - 1)) - 1
        self.specials = specials
        self.dtype = {1: np.uint8, 2: np.uint16, 4: np.uint32}[size]
        self.sign = 1 << (exponent + mantissa)
        top = (1 << exponent) - 1
        # The largest finite code, and the code of infinity (of NaN where there is none).
        self.largest = (top << mantissa) - 1 if specials == "ieee" else (top << mantissa) + (1 << mantissa) - 2
        self.infinity = self.largest + 1
        self.least = 1 - self.bias
        self.highest = (top - 1 if specials == "ieee" else top) - self.bias

    def nearest(self, x):
        """Codes of finite numbers, saturated."""
        x = np.asarray(x, dtype=np.float64)
        magnitude = np.abs(x)
        with np.errstate(divide="ignore"):
            e = np.floor(np.log2(np.where(magnitude > 0, magnitude, 1.0)))
        e = np.clip(e, self.least, self.highest)
        steps = np.rint(magnitude / np.exp2(e - self.mantissa)).astype(np.int64)
        # Steps of the binade carry into the exponent by themselves.
        code = np.where(
            steps < (1 << self.mantissa),
            steps,
            ((e + self.bias).astype(np.int64) - 1 << self.mantissa) + steps,
        )
        code = np.minimum(code, self.largest)
        return np.where(np.signbit(x), code | self.sign, code)

    def stored(self, codes, rng):
        """Codes as they lie in memory; unused low bits are random in one tile of two."""
        codes = codes.astype(np.int64) << self.low
        if self.low and rng.random() < 0.5:
            codes |= rng.integers(0, 1 << self.low, codes.shape)
        return codes.astype(self.dtype)

    def any(self, rng, shape, specials=False):
        """Random codes."""
        codes = rng.integers(0, 2 * self.sign, shape)
        if specials:
            return codes
        magnitude = codes & (self.sign - 1)
        return np.where(magnitude > self.largest, codes & self.sign | (magnitude % self.largest), codes)


FORMATS = {
    "f32": Float(4, 8, 23),
    "f16": Float(2, 5, 10),
    "bf16": Float(2, 8, 7),
    "tf32": Float(4, 8, 10, low=13),
    "e4m3": Float(1, 4, 3, specials="fn"),
    "e5m2": Float(1, 5, 2),
}

# name, tiles of a group (64 rows) or of a warp (16), K, A, B, C
INSTRUCTIONS = [
    (f"{kind}.m{m}n8k{k}.{c}.{a}.{b}", m, k, a, b, c)
    for kind, m, list_ in [
        (
            "mma",
            16,
            [
                (16, "f16", "f16", "f32"),
                (16, "bf16", "bf16", "f32"),
                (16, "f16", "f16", "f16"),
                (8, "tf32", "tf32", "f32"),
                (8, "f16", "f16", "f32"),
                (8, "bf16", "bf16", "f32"),
                (4, "tf32", "tf32", "f32"),
                (32, "e4m3", "e4m3", "f32"),
                (32, "e5m2", "e5m2", "f32"),
                (32, "e4m3", "e5m2", "f32"),
                (32, "e4m3", "e4m3", "f16"),
                (32, "e5m2", "e5m2", "f16"),
                (16, "e4m3", "e4m3", "f32"),
                (32, "s8", "s8", "s32"),
                (32, "s8", "s8", "s32"),
            ],
        ),
        (
            "wgmma",
            64,
            [
                (16, "f16", "f16", "f32"),
                (16, "bf16", "bf16", "f32"),
                (16, "f16", "f16", "f16"),
                (8, "tf32", "tf32", "f32"),
                (32, "e4m3", "e4m3", "f32"),
                (32, "e5m2", "e5m2", "f32"),
                (32, "e4m3", "e5m2", "f32"),
                (32, "e4m3", "e4m3", "f16"),
                (32, "e5m2", "e5m2", "f16"),
            ],
        ),
    ]
    for k, a, b, c in list_
]
first_s8 = [i for i, x in enumerate(INSTRUCTIONS) if x[3] == "s8"]
name, *rest = INSTRUCTIONS[first_s8[1]]
INSTRUCTIONS[first_s8[1]] = (name + ".satfinite", *rest)


class Tile:
    """Codes of A [m, k], of B's columns [8, k] and of C [m, 8]."""

    def __init__(self, rng, m, k, a, b, c):
        self.rng, self.m, self.k = rng, m, k
        self.fa, self.fb, self.fc = FORMATS[a], FORMATS[b], FORMATS[c]

    def shapes(self):
        return (self.m, self.k), (8, self.k), (self.m, 8)

    def signs(self, shape):
        return self.rng.choice([-1.0, 1.0], shape)

    def powers(self, shape, low, high):
        """Signed numbers of exponents from low to high, any significand."""
        e = self.rng.integers(low, high + 1, shape).astype(float)
        return self.signs(shape) * np.exp2(e) * (1 + self.rng.random(shape))

    def of(self, a, b, c):
        return self.fa.nearest(a), self.fb.nearest(b), self.fc.nearest(c)

    def reach(self, f):
        """Exponents of a format that keep sums of products far from the ends of C's format."""
        top = min(f.highest, 6 if self.fc.highest < 20 else 14)
        return max(f.least - f.mantissa, -12), top

    def normal(self):
        a, b, c = self.shapes()
        return self.of(*(self.rng.standard_normal(s) for s in (a, b, c)))

    def any_finite(self):
        a, b, c = self.shapes()
        return self.fa.any(self.rng, a), self.fb.any(self.rng, b), self.fc.any(self.rng, c)

    def any_bits(self):
        a, b, c = self.shapes()
        return tuple(f.any(self.rng, s, True) for f, s in ((self.fa, a), (self.fb, b), (self.fc, c)))

    def wide(self):
        a, b, c = self.shapes()
        width = self.rng.integers(2, 14)
        (la, ha), (lb, hb) = self.reach(self.fa), self.reach(self.fb)
        return self.of(
            self.powers(a, max(la, -width), min(ha, width)),
            self.powers(b, max(lb, -width), min(hb, width)),
            self.powers(c, -width, width),
        )

    def cancelling(self):
        a, b, c = self.shapes()
        half = self.k // 2
        x, y = self.powers(a, -3, 5), self.powers(b, -3, 5)
        x[:, half : 2 * half] = x[:, :half]
        y[:, half : 2 * half] = -y[:, :half]
        # A few small terms remain.
        small = self.rng.random(a) < 0.15
        x = np.where(small, x * np.exp2(-self.rng.integers(0, 9)), x)
        order = self.rng.permutation(self.k)
        x, y = x[:, order], y[:, order]
        z = self.powers(c, -14, 0)
        if self.rng.random() < 0.5:
            # C cancels the first product.
            z = np.where(self.rng.random(c) < 0.5, -(x[:, :1] * y[:, 0][None, :]), z)
        return self.of(x, y, z)

    def subnormal(self):
        a, b, c = self.shapes()
        few = lambda f, s: self.rng.integers(0, 1 << (f.mantissa + 1), s) | np.where(
            self.rng.random(s) < 0.5, f.sign, 0
        )
        x, y, z = few(self.fa, a), few(self.fb, b), few(self.fc, c)
        if self.rng.random() < 0.5:
            y = self.fb.nearest(self.powers(b, -2, 3))
        if self.rng.random() < 0.3:
            z = np.zeros_like(z)
        return x, y, z

    def large_c(self):
        x, y, z = self.shapes()
        high = 12 if self.fc.highest < 20 else 30
        return self.of(self.powers(x, -4, 2), self.powers(y, -4, 2), self.powers(z, 0, high))

    def small_c(self):
        x, y, z = self.shapes()
        return self.of(self.powers(x, 0, 4), self.powers(y, 0, 4), self.powers(z, -22, 2))

    def ladder(self):
        """One large term, the others some bits below it, around the width of the sum."""
        a, b, c = self.shapes()
        (la, ha), (lb, hb) = self.reach(self.fa), self.reach(self.fb)
        top = min(ha, hb, 5)
        below = int(self.rng.integers(8, 30))
        x = self.powers(a, la, la + 1)
        y = self.powers(b, lb, lb + 1)
        ea = np.clip(self.rng.integers(top - below - 3, top - below + 4, a) // 2, la, top)
        x = self.signs(a) * np.exp2(ea) * (1 + (self.rng.random(a) < 0.4) * self.rng.random(a))
        eb = np.clip(self.rng.integers(top - below - 3, top - below + 4, b) // 2, lb, top)
        y = self.signs(b) * np.exp2(eb) * (1 + (self.rng.random(b) < 0.4) * self.rng.random(b))
        z = self.powers(c, max(2 * top - below - 6, -24), 2 * top - below + 2)
        if self.rng.random() < 0.6:
            at = self.rng.integers(0, self.k)
            x[:, at] = self.signs(self.m) * np.exp2(top) * (1 + self.rng.integers(0, 2, self.m) * 0.75)
            y[:, at] = np.exp2(top) * (1 + self.rng.integers(0, 2, 8) * 0.75)
        else:
            z = self.signs(c) * np.exp2(2 * top) * (1 + self.rng.integers(0, 2, c) * self.rng.random(c))
        return self.of(x, y, z)

    def integers(self):
        """Exact integers: sums that lie halfway between results are frequent."""
        a, b, c = self.shapes()
        ra, rb = (2 ** min(f.mantissa + 1, 11) for f in (self.fa, self.fb))
        if self.fc.highest < 20:
            ra, rb = min(ra, 16), min(rb, 16)
        x, y = self.rng.integers(-ra, ra + 1, a), self.rng.integers(-rb, rb + 1, b)
        z = self.rng.integers(-(2**12), 2**12 + 1, c) * 2.0 ** self.rng.integers(-1, 14 if self.fc.highest > 20 else 3)
        return self.of(x, y, z)

    def overflowing(self):
        a, b, c = self.shapes()
        top = lambda f, s: self.powers(s, f.highest - 2, f.highest)
        x, y, z = top(self.fa, a), top(self.fb, b), top(self.fc, c)
        if self.rng.random() < 0.5:
            y = self.powers(b, -3, 1)
        if self.rng.random() < 0.5:
            x, y = np.abs(x), np.abs(y)
        with np.errstate(over="ignore"):
            return self.of(x, y, z)

    def special(self):
        """Infinities, NaN and zeros among ordinary numbers."""
        codes = list(self.normal())
        share = self.rng.choice([0.01, 0.05])
        for at, f in enumerate((self.fa, self.fb, self.fc)):
            s = codes[at].shape
            what = self.rng.random(s)
            sign = np.where(self.rng.random(s) < 0.5, f.sign, 0)
            codes[at] = np.where(what < share, f.infinity | sign, codes[at])
            codes[at] = np.where((what > 0.3) & (what < 0.3 + share / 4), (f.sign - 1) | sign, codes[at])
            codes[at] = np.where((what > 0.6) & (what < 0.6 + 2 * share), sign, codes[at])
        return tuple(codes)

    def zeros(self):
        codes = list(self.normal())
        for at, f in enumerate((self.fa, self.fb, self.fc)):
            s = codes[at].shape
            sign = np.where(self.rng.random(s) < 0.5, f.sign, 0)
            codes[at] = np.where(self.rng.random(s) < 0.85, sign, codes[at])
        return tuple(codes)


KINDS = [
    "normal",
    "any_finite",
    "wide",
    "cancelling",
    "subnormal",
    "large_c",
    "small_c",
    "ladder",
    "integers",
    "overflowing",
    "special",
    "zeros",
    "any_bits",
]


def integer_tile(rng, m, k, kind):
    """int8 operands and an int32 sum, at their ends in half of the kinds."""
    if kind % 2:
        a, b = (rng.choice([-128, 127, 0, 1], s) for s in ((m, k), (8, k)))
        c = rng.choice([-(2**31), 2**31 - 1, 0], (m, 8)) + rng.integers(-(2**19), 2**19, (m, 8))
        c = np.clip(c, -(2**31), 2**31 - 1)
    else:
        a, b = (rng.integers(-128, 128, s) for s in ((m, k), (8, k)))
        c = rng.integers(-(2**31), 2**31, (m, 8)) >> int(rng.integers(0, 20))
    return a.astype(np.int8), b.astype(np.int8), c.astype(np.int32)


def tiles(name, m, k, a, b, c, each):
    """All tiles of an instruction, each as (kind, A, B, C) as they lie in memory."""
    rng = np.random.default_rng([SEED, *name.encode()])
    for number, kind in enumerate(KINDS):
        for _ in range(each):
            if a == "s8":
                yield kind, *integer_tile(rng, m, k, number)
                continue
            tile = Tile(rng, m, k, a, b, c)
            codes = getattr(tile, kind)()
            yield kind, *(f.stored(x, rng) for f, x in zip((tile.fa, tile.fb, tile.fc), codes))


def each_of(arguments, m):
    return arguments.group_tiles if m == 64 else arguments.tiles


def generate(arguments):
    with open(arguments.input, "wb") as out:
        for name, m, k, a, b, c in INSTRUCTIONS:
            each = each_of(arguments, m)
            out.write(f"{name} {each * len(KINDS)}\n".encode())
            for _, x, y, z in tiles(name, m, k, a, b, c, each):
                out.write(x.tobytes() + y.tobytes() + z.tobytes())


def pack(arguments):
    """The first tiles of each kind, with what the instruction gave; rows of a group's tile are thinned."""
    cases = []
    with open(arguments.output, "rb") as results:
        for name, m, k, a, b, c in INSTRUCTIONS:
            size = {"f16": 2}.get(c, 4)
            seen = {}
            for kind, x, y, z in tiles(name, m, k, a, b, c, each_of(arguments, m)):
                d = np.frombuffer(results.read(m * 8 * size), z.dtype).reshape(m, 8)
                seen[kind] = seen.get(kind, 0) + 1
                if seen[kind] > arguments.kinds_each:
                    continue
                step = max(1, m // arguments.rows)
                rows = slice((seen[kind] - 1) % step, None, step)
                cases.append(
                    {
                        "instruction": name,
                        "kind": kind,
                        "a": x[rows].tobytes().hex(),
                        "b": y.tobytes().hex(),
                        "c": z[rows].tobytes().hex(),
                        "d": d[rows].tobytes().hex(),
                    }
                )
    with open(arguments.json, "w") as out:
        head = {"about": arguments.about, "columns": 8, "seed": SEED}
        out.write(json.dumps(head)[:-1] + ', "cases": [\n')
        out.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, run in (("generate", generate), ("pack", pack)):
        command = commands.add_parser(name)
        command.add_argument("input")
        command.add_argument("--tiles", type=int, default=32)
        command.add_argument("--group-tiles", type=int, default=10)
        command.set_defaults(run=run)
        if name == "pack":
            command.add_argument("output")
            command.add_argument("json")
            command.add_argument("--kinds-each", type=int, default=1)
            command.add_argument("--rows", type=int, default=2)
            command.add_argument("--about", default="")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
