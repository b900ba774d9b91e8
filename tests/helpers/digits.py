"""Identity of scikit-learn's digits, and of those made harder, as stored plans have it."""

from core import data
from trainables.study.data_identity import DataIdentity

DIGITS = DataIdentity.of(data.load("digits"))
HARD_DIGITS = DataIdentity.of(data.load("hard_digits"))
