"""The nearest rows by brute force in float64, and how answers compare with them."""

import dataclasses

import numpy

BLOCK_ROWS = 65536
SPARE = 64        # rows beyond k that the first pass keeps: more than can change places by its rounding
TIE = 1e-12       # scores whose difference, relative to the larger, is below this are equal but for rounding


class Oracle:
    def __init__(self, base, queries, metric, k):
        """Nearest `k` rows of `base` for each of `queries`, equal scores by lower row."""
        self.base, self.metric = base, metric
        self.queries = queries.astype(numpy.float64)
        candidates = self.candidates(k + SPARE)
        self.rows = numpy.empty((len(queries), min(k, len(base))), numpy.int64)
        for number, rows in enumerate(candidates):
            rows = numpy.sort(rows)
            order = numpy.argsort(-self.scores(number, rows), kind="stable")
            self.rows[number] = rows[order][:self.rows.shape[1]]

    def candidates(self, count):
        """[queries][count] rows, best by a matrix product, in no order."""
        best_scores = numpy.empty((len(self.queries), 0))
        best_rows = numpy.empty((len(self.queries), 0), numpy.int64)
        for first in range(0, len(self.base), BLOCK_ROWS):
            block = self.base[first:first + BLOCK_ROWS].astype(numpy.float64)
            scores = self.queries @ block.T
            if self.metric == "l2":
                scores = 2 * scores - (block * block).sum(axis=1)
            elif self.metric == "cosine":
                scores /= numpy.sqrt((block * block).sum(axis=1))
            scores = numpy.concatenate([best_scores, scores], axis=1)
            rows = numpy.concatenate([best_rows, numpy.broadcast_to(numpy.arange(first, first + len(block)), (len(scores), len(block)))], axis=1)
            if scores.shape[1] > count:
                kept = numpy.argpartition(-scores, count - 1, axis=1)[:, :count]
                scores, rows = numpy.take_along_axis(scores, kept, 1), numpy.take_along_axis(rows, kept, 1)
            best_scores, best_rows = scores, rows
        return best_rows

    def scores(self, number, rows):
        """Larger is nearer, as in kernels/compute.h; summed plainly, without the product's cancellation."""
        query, vectors = self.queries[number], self.base[rows].astype(numpy.float64)
        if self.metric == "l2":
            return -((vectors - query) ** 2).sum(axis=1)
        scores = (vectors * query).sum(axis=1)
        if self.metric == "cosine":
            scores /= numpy.sqrt((query * query).sum()) * numpy.sqrt((vectors * vectors).sum(axis=1))
        return scores


@dataclasses.dataclass
class Comparison:
    identical: bool   # every list is the oracle's, but for ties
    ties: list        # [query, place, found row, oracle's row]: another row whose score is equal but for rounding
    differences: list # [query, place, found row, oracle's row]: anything else


def compare(oracle, found, k):
    """`found` [queries][k] rows, best first, -1 where there is none."""
    result = Comparison(True, [], [])
    for number, rows in enumerate(found):
        wanted = oracle.rows[number, :k]
        rows = rows[:len(wanted)]
        if numpy.array_equal(rows, wanted):
            continue
        valid = numpy.where((rows >= 0) & (rows < len(oracle.base)), rows, 0)
        found_scores, wanted_scores = oracle.scores(number, valid), oracle.scores(number, wanted)
        equal = numpy.abs(found_scores - wanted_scores) <= TIE * numpy.maximum(numpy.abs(found_scores), numpy.abs(wanted_scores))
        repeated = len(set(rows.tolist())) != len(rows)
        for place in numpy.flatnonzero(rows != wanted):
            is_tie = equal[place] and valid[place] == rows[place] and not repeated
            (result.ties if is_tie else result.differences).append([number, int(place), int(rows[place]), int(wanted[place])])
    result.identical = not result.differences
    return result


def recall(oracle, found, k):
    hits = sum(len(numpy.intersect1d(rows[:k], oracle.rows[number, :k])) for number, rows in enumerate(found))
    return hits / (len(found) * min(k, oracle.rows.shape[1]))
