"""What a certificate says, in words, for who reads it after a call."""

from __future__ import annotations

from typing import Any

import numpy as np

from .audit import Audited
from .certificate import Certificate

# Levels of work, in the order of the ladder, by the name of the field.
LEVELS = {
    "tiles_skipped": "left out",
    "tiles_coarse": "coarse",
    "tiles_half": "half",
    "tiles_mixed": "mixed",
    "tiles_split": "split",
    "tiles_exact": "exact",
}


def report_certificate(certificate: Certificate) -> str:
    """Write what a certificate says of all its queries: errors at worst, work by level, what was saved.

    Shares of tiles are of those in which something can be seen. Where none of them was left out, made coarse or
    scored in fewer bits, the text says that there was nothing to skip.

    Args:
        certificate: of concrete numbers, of any queries and heads.

    Example:
        >>> import jax.numpy as jnp
        >>> one = jnp.ones((1,))
        >>> none = jnp.zeros((1,), jnp.int32)
        >>> certificate = Certificate(
        ...     0 * one, 1e-5 * one, 0 * one, 2e-5 * one, one, none + 4, none, none, none, one > 0
        ... )
        >>> print(report_certificate(certificate))
        1 query: sound
        error at most 2e-05, 2e-05 of the length of a value; total variation 1e-05, KL 0 nats, left out weight 0
        tiles: exact 100 %
        nothing to skip
    """
    bounds = "out_error", "relative_error", "total_variation", "kl", "skipped"
    error, relative, variation, kl, skipped = (float(np.max(getattr(certificate, name))) for name in bounds)
    count = np.asarray(certificate.sound).size
    lines = [
        f"{count} {'query' if count == 1 else 'queries'}: {_sound(np.asarray(certificate.sound))}",
        f"error at most {error:.3g}, {relative:.3g} of the length of a value; total variation {variation:.3g}, KL "
        f"{kl:.3g} nats, left out weight {skipped:.3g}",
        *_work(certificate),
    ]
    if certificate.audit is not None:
        lines += _audit(certificate.audit)
    return "\n".join(lines)


def _sound(sound: np.ndarray) -> str:
    if sound.all():
        return "sound"
    return f"the promise is below what rounding allows for {np.mean(~sound):.1%}, whose bounds hold still"


def _work(certificate: Certificate) -> list[str]:
    totals = {name: _total(getattr(certificate, name)) for name in LEVELS}
    hidden, extra = _total(certificate.tiles_hidden), _total(certificate.tiles_extra)
    seen = sum(totals.values())
    shares = [f"{word} {100 * totals[name] / max(seen, 1):.3g} %" for name, word in LEVELS.items() if totals[name]]
    besides = [
        f"hidden {100 * hidden / max(seen + hidden, 1):.3g} % of all" if hidden else "",
        f"scored besides {100 * extra / max(seen, 1):.3g} %" if extra else "",
    ]
    lines = ["tiles: " + "; ".join([", ".join(shares) or "none", *filter(None, besides)])]
    for word, done, exact in (
        ("operations", certificate.flops, certificate.flops_exact),
        ("bytes of keys and values", certificate.bytes_read, certificate.bytes_exact),
    ):
        if done is not None and exact is not None and _total(exact):
            lines.append(f"{word}: {_total(done) / _total(exact):.3g} of exact attention's")
    if totals["tiles_exact"] == seen:
        lines.append("nothing to skip")
    return lines


def _total(counts: Any) -> float:
    return 0.0 if counts is None else float(np.sum(np.asarray(counts), dtype=np.float64))


def _audit(audit: Audited) -> list[str]:
    rows, tolerance, confidence = (np.asarray(each).flat[0] for each in (audit.rows, audit.tolerance, audit.confidence))
    is_again = np.asarray(audit.is_again)
    kept = np.asarray(audit.share)[~is_again]
    lines = [
        f"audit of {rows} queries of each head: {int(np.sum(audit.failures))} off by more than {tolerance:.3g} of the "
        f"length of a value, the largest by {float(np.max(audit.largest)):.3g}"
    ]
    if kept.size:
        lines.append(f"with confidence {confidence:.6g}, at most {100 * kept.max():.3g} % of the queries of a head are")
    if is_again.any():
        lines.append(f"heads computed again, exactly: {int(is_again.sum())} of {is_again.size}")
    return lines
