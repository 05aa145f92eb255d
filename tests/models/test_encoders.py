import pytest
import torch
from torch import nn

from cp2.models.encoders import DenseEncoder, DenseProjection, GlobalEncoder, Segmentor
from cp2.models.heads import build_head
from cp2.settings.models import AsppSettings, FcnSettings

ASPP = AsppSettings(kind="aspp", name="a", title="A", channels=4, dilations=(1, 2))
FCN = FcnSettings(kind="fcn", name="f", title="F", channels=4, dilation=2)
IMAGES = (2, 3, 65, 80)  # 5x5 cells for a ResNet, 4x5 for a ViT


@pytest.fixture(params=["resnet", "vit"])
def backbone(request):
    return request.getfixturevalue(request.param)


def cells(backbone):
    return (5, 5) if backbone.channels == 64 else (4, 5)


@pytest.mark.parametrize("hidden_layers", [1, 2])
def test_projection_is_the_same_small_network_at_every_cell(hidden_layers):
    projection = DenseProjection(6, dim=5, hidden_layers=hidden_layers)
    x = torch.randn(2, 6, 3, 4)
    expected = torch.empty(2, 5, 3, 4)
    layers = [module for module in projection if isinstance(module, nn.Conv2d)]
    assert len(layers) == hidden_layers + 1
    for n in range(2):
        for y in range(3):
            for column in range(4):
                vector = x[n, :, y, column]
                for layer in layers[:-1]:
                    vector = (layer.weight[:, :, 0, 0] @ vector + layer.bias).clamp(min=0)
                last = layers[-1]
                expected[n, :, y, column] = last.weight[:, :, 0, 0] @ vector + last.bias
    torch.testing.assert_close(projection(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [ASPP, FCN])
def test_dense_encoder(backbone, settings):
    head = build_head(settings, backbone.channels)
    encoder = DenseEncoder(backbone, head, DenseProjection(head.channels, dim=7))
    images = torch.randn(IMAGES)
    output = encoder(images)
    assert output.shape == (2, 7, *cells(backbone))
    output.square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []
    encoder.eval()
    stepwise = encoder.projection(encoder.head(encoder.backbone(images)))
    torch.testing.assert_close(encoder(images), stepwise, rtol=0, atol=0)


def test_global_encoder(backbone):
    encoder = GlobalEncoder(backbone, dim=7).eval()
    images = torch.randn(IMAGES)
    pooled = backbone(images).flatten(2).mean(2)
    first, last = encoder.fc[0], encoder.fc[2]
    hidden = (pooled @ first.weight.T + first.bias).clamp(min=0)
    output = encoder(images)
    torch.testing.assert_close(output, hidden @ last.weight.T + last.bias, rtol=1e-4, atol=1e-5)
    assert first.weight.shape == (backbone.channels, backbone.channels)
    output.square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_segmentor(backbone):
    head = build_head(FCN, backbone.channels)
    segmentor = Segmentor(backbone, head, num_classes=21, dropout=0.1)
    images = torch.randn(IMAGES)
    logits = segmentor(images)
    assert logits.shape == (2, 21, *cells(backbone))
    logits.square().sum().backward()
    assert [name for name, p in segmentor.named_parameters() if p.grad is None] == []


def test_segmentor_classifier_starts_small(resnet):
    head = build_head(FCN.model_copy(update={"channels": 512}), resnet.channels)
    classifier = Segmentor(resnet, head, num_classes=50, dropout=0.1).conv_seg
    assert classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert abs(classifier.weight.mean().item()) < 5e-4
    assert (classifier.bias == 0).all()


def test_segmentor_drops_whole_channels_in_training_only(resnet):
    segmentor = Segmentor(resnet, build_head(FCN, resnet.channels), num_classes=3, dropout=1.0)
    segmentor.conv_seg.weight.data.fill_(1)
    images = torch.randn(IMAGES)
    assert (segmentor(images) == 0).all()
    assert (segmentor.eval()(images) != 0).any()
    assert isinstance(segmentor.dropout, nn.Dropout2d)
