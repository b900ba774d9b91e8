"""Our ranges as Optuna distributions: the only translation."""

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from core.space import Choice, IntRange, LogUniform, Range, Uniform


def distribution(span: Range) -> BaseDistribution:
    """The distribution with the same ends; both ends of whole numbers can be drawn."""
    match span:
        case Uniform(low, high):
            return FloatDistribution(low, high)
        case LogUniform(low, high):
            return FloatDistribution(low, high, log=True)
        case IntRange(low, high):
            return IntDistribution(low, high)
        case Choice(options):
            return CategoricalDistribution(options)
