"""Identity of scikit-learn's digits, as stored plans have it."""

from core import data
from trainables.study.data_identity import DataIdentity

DIGITS = DataIdentity.of(data.load("digits"))
