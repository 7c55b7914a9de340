"""Coefficients of the polynomials and the split constants, for f32 and f64.

Every polynomial is the weighted minimax fit (Remez exchange in 80-digit arithmetic) of what its comment shows, its
coefficients rounded one after another while the later ones were fitted again. The comment gives the largest error
relative to the whole function; `tests/shaders/functions/test_coefficients.py` checks each against that bound.
"""

from __future__ import annotations

from typing import Final

Table = dict[str, tuple[float, ...]]

EXPM1: Final[Table] = {  # (expm1(r) - r) / r² on |r| <= ln(2) / 2; 2^-26.1, 2^-60.6
    "f32": (0.5, 0.16666539, 0.041666612, 0.0083671, 0.0013917619),
    "f64": (
        0.5, 0.16666666666666677, 0.0416666666666667, 0.008333333333321615, 0.0013888888888866837,
        0.00019841269886158774, 2.4801587360557634e-05, 2.7557244181706644e-06, 2.7557242759118944e-07,
        2.5109044959595027e-08, 2.092444332771021e-09,
    ),
}  # fmt: skip

ATANH: Final[Table] = {  # 2 (atanh(s) / s - 1) / s² in s², |s| <= 0.1716; 2^-30.1, 2^-59.2
    "f32": (0.66666776, 0.3997758, 0.2987093),
    "f64": (
        0.6666666666666734, 0.3999999999941641, 0.28571428742114535, 0.22222198593476405, 0.18183563570112163,
        0.1531406384618744, 0.14795866778912697,
    ),
}  # fmt: skip

ATANH_TAIL: Final[Table] = {  # 2 (atanh(s) / s - 1 - s²/3) / s⁴ in s², |s| <= 0.1716; 2^-36.7, 2^-61.6
    "f32": (0.40000153, 0.2854709, 0.23419634),
    "f64": (
        0.40000000000002256, 0.2857142857009842, 0.22222222520131804, 0.181817843485582, 0.1538675820011064,
        0.13256797187871208, 0.13196522569944577,
    ),
}  # fmt: skip

SINE: Final[Table] = {  # (sin(r) / r - 1) / r² in r², |r| <= pi / 4; 2^-27.8, 2^-57.8
    "f32": (-0.16666655, 0.008332191, -0.00019518605),
    "f64": (
        -0.16666666666666632, 0.008333333333322486, -0.0001984126982985337, 2.7557313705065217e-06,
        -2.5050759889337564e-08, 1.5896886473237195e-10,
    ),
}  # fmt: skip

COSINE: Final[Table] = {  # (cos(r) - 1 + r²/2) / r⁴ in r², |r| <= pi / 4; 2^-32.6, 2^-62.3
    "f32": (0.041666646, -0.0013887301, 2.443067e-05),
    "f64": (
        0.0416666666666666, -0.001388888888887447, 2.4801587289666912e-05, -2.755731439926953e-07,
        2.0875728994976455e-09, -1.135991737384634e-11,
    ),
}  # fmt: skip

ARCTANGENT: Final[Table] = {  # (atan(q) / q - 1) / q² in q², |q| <= tan(pi / 8); 2^-30.3, 2^-58.5
    "f32": (-0.33333316, 0.19998531, -0.14244469, 0.105997965, -0.060916666),
    "f64": (
        -0.333333333333332, 0.19999999999954, -0.1428571428023966, 0.11111110785675006, -0.09090897822618815,
        0.07692061382702738, -0.06663117404441073, 0.05847986648281436, -0.05039742705451644,
        0.038075650168839056, -0.017919293838409695,
    ),
}  # fmt: skip

# The first part has so few bits that its product with a whole exponent is exact.
LN2: Final[Table] = {
    "f32": (0.693145751953125, 1.428606765330187e-06),
    "f64": (0.6931471805598903, 5.497923018708371e-14),
}

# Parts of 12 (31) bits, so that products with a whole number of 12 (22) bits are exact.
HALF_PI: Final[Table] = {
    "f32": (1.5703125, 0.0004837512969970703, 7.549533620476723e-08, 2.5633440682570896e-12),
    "f64": (1.5707963267341256, 6.07710050359346e-11, 2.9127320548227e-20, 1.2706558760139879e-29),
}

# Multiples of a quarter turn as the nearest number and what it lacks.
QUARTER_PI: Final[Table] = {
    "f32": (0.7853981852531433, -2.1855695000931213e-08),
    "f64": (0.7853981633974483, 3.061616997868383e-17),
}

TWO_THIRDS: Final[Table] = {
    "f32": (0.6666666865348816, -1.986821492305774e-08),
    "f64": (0.6666666666666666, 3.700743415417188e-17),
}

LOG2_E: Final = 1.4426950408889634
# The nearest f32 and what it lacks.
LOG2_E_PARTS: Final = (1.4426950216293335, 1.925962991126617e-08)
TWO_OVER_PI: Final = 0.6366197723675814

TWO_OVER_PI_BITS: Final = (
    0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041, 0xFE5163AB, 0xDEBBC561,
    0xB7246E3A, 0x424DD2E0, 0x06492EEA, 0x09D1921C, 0xFE1DEB1C, 0xB129A73E, 0xE88235F5, 0x2EBB4484,
    0xE99C7026, 0xB45F7E41, 0x3991D639, 0x835339F4, 0x9C845F8B, 0xBDF9283B, 0x1FF897FF, 0xDE05980F,
    0xEF2F118B, 0x5A0A6D1F, 0x6D367ECF, 0x27CB09B7, 0x4F463F66, 0x9E5FEA2D, 0x7527BAC7, 0xEBE5F17B,
    0x3D0739F7, 0x8A5292EA, 0x6BFB5FB1, 0x1F8D5D08, 0x56033046, 0xFC7B6BAB, 0xF0CFBC20, 0x9AF4361D,
)  # fmt: skip
"""The bits of 2/pi after the binary point, 32 a word."""
