"""The specification: what a `.bcg` file means, as frozen values.

`NetworkSpec` is the one value that travels: the language elaborates a text to it, search operators map it to
another one, the compiler lowers it. It is hashable and equal by content; where a value came from (its `span`)
takes no part in that. Nothing here imports torch.

A backbone's `body` is a tree: layers in the order of the data, with `Sum` and `Concat` nodes that hold
branches. Names in it are complete (`layer1.0.conv1`), since blocks are already expanded.
"""

from bcgraph.schema.backbone import Backbone as Backbone
from bcgraph.schema.backbone import Call as Call
from bcgraph.schema.backbone import ImageInput as ImageInput
from bcgraph.schema.backbone import InputSpec as InputSpec
from bcgraph.schema.backbone import SequenceInput as SequenceInput
from bcgraph.schema.backbone import SignalInput as SignalInput
from bcgraph.schema.backbone import VectorInput as VectorInput
from bcgraph.schema.connections import BackwardConnection as BackwardConnection
from bcgraph.schema.connections import Connection as Connection
from bcgraph.schema.connections import ForwardConnection as ForwardConnection
from bcgraph.schema.connections import Maps as Maps
from bcgraph.schema.connections import OwnProjection as OwnProjection
from bcgraph.schema.connections import Place as Place
from bcgraph.schema.connections import Projection as Projection
from bcgraph.schema.connections import Through as Through
from bcgraph.schema.data import DataSpec as DataSpec
from bcgraph.schema.layers import AdaptivePool as AdaptivePool
from bcgraph.schema.layers import BatchNorm as BatchNorm
from bcgraph.schema.layers import Body as Body
from bcgraph.schema.layers import Concat as Concat
from bcgraph.schema.layers import Conv as Conv
from bcgraph.schema.layers import Dropout as Dropout
from bcgraph.schema.layers import Flatten as Flatten
from bcgraph.schema.layers import Join as Join
from bcgraph.schema.layers import LayerNode as LayerNode
from bcgraph.schema.layers import Linear as Linear
from bcgraph.schema.layers import NeuronLayer as NeuronLayer
from bcgraph.schema.layers import Pool as Pool
from bcgraph.schema.layers import Product as Product
from bcgraph.schema.layers import Registered as Registered
from bcgraph.schema.layers import Resize as Resize
from bcgraph.schema.layers import Standard as Standard
from bcgraph.schema.layers import Sum as Sum
from bcgraph.schema.layers import body_digest as body_digest
from bcgraph.schema.layers import changed as changed
from bcgraph.schema.layers import last_norm as last_norm
from bcgraph.schema.layers import walk as walk
from bcgraph.schema.layers import with_gain as with_gain
from bcgraph.schema.network import NetworkSpec as NetworkSpec
from bcgraph.schema.neuron import Argument as Argument
from bcgraph.schema.neuron import Neuron as Neuron
from bcgraph.schema.neuron import Norm as Norm
from bcgraph.schema.neuron import Surrogate as Surrogate
from bcgraph.schema.search import EvolveSpec as EvolveSpec
from bcgraph.schema.search import FinishSpec as FinishSpec
from bcgraph.schema.search import InitSpec as InitSpec
from bcgraph.schema.search import SearchSpec as SearchSpec
from bcgraph.schema.search import SupernetSpec as SupernetSpec
from bcgraph.schema.train import SGD as SGD
from bcgraph.schema.train import AdamW as AdamW
from bcgraph.schema.train import Constant as Constant
from bcgraph.schema.train import Cosine as Cosine
from bcgraph.schema.train import StepDecay as StepDecay
from bcgraph.schema.train import TrainSpec as TrainSpec
