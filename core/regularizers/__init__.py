"""The `regularizer` slot: what is added to the loss."""

from core.regularizers.elastic_net import ElasticNet, NoRegularizer

REGULARIZERS = {"none": NoRegularizer, "elastic_net": ElasticNet}
