"""What Ray Tune writes to files contains nothing of the site, whose URIs may have passwords."""

import copy
import pickle

import pytest
from ray import cloudpickle
from ray.tune.search import ConcurrencyLimiter, Searcher

from trainables.execution.cluster import ConcurrencyLimit
from trainables.execution.resources import Share
from trainables.search.concurrency import LimitedSearcher
from trainables.study.site import Site

SITE = Site(tracking_uri="postgresql://me:secret@host/db", concurrency=2)


def test_a_site_cannot_be_pickled_or_copied_into_what_is():
    for write in (pickle.dumps, cloudpickle.dumps, copy.deepcopy, lambda site: pickle.dumps({"limit": [site]})):
        with pytest.raises(TypeError, match="stay in the driver's memory"):
            write(SITE)


def test_the_limit_and_the_state_of_the_searcher_that_ray_tune_saves_contain_no_uri(monkeypatch):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0})
    limit = ConcurrencyLimit(Share(0, 1.0, 0.0), SITE)
    searcher = LimitedSearcher(Searcher(), limit)
    assert isinstance(searcher, ConcurrencyLimiter) and searcher.get_state() == {}
    for saved in (limit, searcher, searcher.get_state(), vars(searcher)):
        assert b"secret" not in cloudpickle.dumps(saved) and b"host" not in cloudpickle.dumps(saved)
