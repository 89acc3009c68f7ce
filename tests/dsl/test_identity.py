"""What networks are called in runs and weights of earlier versions stays what it was."""

from __future__ import annotations

import pytest

from bcgraph import dsl

NETWORK = "bcg 1\nnetwork n {{ input = image(3, 32, 32); steps = 4; neuron = {}; backbone = {} }}"

# Neuron, backbone, fingerprint of the network and digest of its layers, as the first version computed them.
KNOWN = [
    (
        "lif()",
        "resnet18(width=8)",
        "87086bb8a2d05faeb2daa4f4dc6b1600329d9e2c295bba636d0444663c60663d",
        "ee4375801e3201499eafcef5a7e2fe50491d52457c0fda84068566c20e2f893f",
    ),
    (
        "lif(tau=0.25, threshold=0.7, reset=soft, surrogate=triangle(width=2.0), detach_reset=true)",
        "tiny()",
        "60444667b09fd1e942ede8be18a0f1742253651d16ad2787965328fa6a53945c",
        "ba82e900cc3d4358ea50e6863613916795cd85ccbf2e6cdde94152d6ac0c69fd",
    ),
    (
        "lif(tau=1)",
        "resnet19(width=8)",
        "e42ef043c925c96d9ecafb3a9c7dc30ab478d554b14e12fb3b0054635b739a38",
        "2fa5a9a53e3c217e25a0e1e8548a58bd9fe0495a85ad0f42ef3cb2d24956e6c8",
    ),
    (
        "lif(reset=soft)",
        "vggsnn(width=8)",
        "601c0184c15facb135cb7e7b5dcb57d0dc9ecaa608ebcb640b2947c67fb3f4f5",
        "4e004f636d1cefeaea539eecd5c28202da4d3955e44125098ebe682aedb1b1ec",
    ),
]


@pytest.mark.parametrize(("neuron", "backbone", "fingerprint", "digest"), KNOWN)
def test_fingerprints(neuron: str, backbone: str, fingerprint: str, digest: str) -> None:
    spec = dsl.parse(NETWORK.format(neuron, backbone))
    assert (spec.fingerprint(), spec.backbone.digest) == (fingerprint, digest)


def test_a_layer_with_settings_of_its_own() -> None:
    spec = dsl.parse(
        "bcg 1\n"
        "block b(t) { conv1 = conv(4); bn1 = bn(); lif1 = lif(tau=t); lif2 = lif(); flatten(); fc = linear(3) }\n"
        "network n { input = image(1, 4, 4); steps = 2; neuron = lif(threshold=2); backbone = b(t=0.3) }"
    )
    assert spec.fingerprint() == "16944e64771056df3157ae0962802c522000d082b1b71faafee865d6535005b1"
    assert spec.backbone.digest == "92199d0a2b97495e408fb8b5fee4ba9bf5cd1b4a486627846f3bc14318927e4a"


def test_other_neurons_are_told_apart() -> None:
    found = {
        dsl.parse(NETWORK.format(neuron, "tiny()")).fingerprint()
        for neuron in ("lif()", "lif(surrogate=atan())", "plif()", "plif(tau=3.0)", "if_()", "cuba()", "alif()")
    }
    assert len(found) == 7
