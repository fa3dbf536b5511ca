"""Small networks put together at random from the shapes that slicing must get right, and the masked-against-sliced oracle."""

from __future__ import annotations

from math import gcd

import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import strategies as st
from torch import nn

SIZE = 8
CLASSES = 3


class Plain(nn.Module):
    def __init__(self, inputs, units):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(inputs, units, 3, padding=1), nn.BatchNorm2d(units), nn.ReLU(True)

    def forward(self, x):
        return self.act(self.norm(self.conv(x)))


class Bare(nn.Module):
    """No norm, an activation called as a method."""

    def __init__(self, inputs, units):
        super().__init__()
        self.conv = nn.Conv2d(inputs, units, 1)

    def forward(self, x):
        return self.conv(x).relu()


class Residual(nn.Module):
    def __init__(self, inputs, units):
        super().__init__()
        self.one, self.two = nn.Conv2d(inputs, units, 3, padding=1, bias=False), nn.Conv2d(units, units, 1)
        self.norm, self.short = nn.BatchNorm2d(units), nn.Conv2d(inputs, units, 1)

    def forward(self, x):
        y = self.two(F.relu(self.norm(self.one(x)), inplace=True))
        y += self.short(x)
        return F.leaky_relu(y, 0.2)


class Identity(nn.Module):
    """A residual stream that is added to as it is."""

    def __init__(self, inputs, units):
        super().__init__()
        self.one, self.two = nn.Conv2d(inputs, units, 3, padding=1), nn.Conv2d(units, inputs, 1)

    def forward(self, x):
        return x + self.two(F.relu6(self.one(x)))


class Concat(nn.Module):
    def __init__(self, inputs, units):
        super().__init__()
        self.one, self.two = nn.Conv2d(inputs, units, 1), nn.Conv2d(inputs, units // 2, 3, padding=1)

    def forward(self, x):
        return torch.cat([F.relu(self.one(x)), x, F.hardswish(self.two(x))], 1)


class Grouped(nn.Module):
    def __init__(self, inputs, units):
        super().__init__()
        self.mix = nn.Conv2d(inputs, units, 1)
        self.conv = nn.Conv2d(units, 2 * units, 3, padding=1, groups=gcd(units, 4))
        self.norm = nn.BatchNorm2d(2 * units)

    def forward(self, x):
        return F.relu(self.norm(self.conv(F.relu(self.mix(x)))))


class Depthwise(nn.Module):
    """An inverted residual with a linear bottleneck."""

    def __init__(self, inputs, units):
        super().__init__()
        self.expand, self.filter = nn.Conv2d(inputs, units, 1), nn.Conv2d(units, units, 3, padding=1, groups=units)
        self.norm, self.project = nn.BatchNorm2d(units), nn.Conv2d(units, inputs, 1)

    def forward(self, x):
        y = F.relu6(self.norm(self.filter(F.relu6(self.expand(x)))))
        return x + self.project(y)


class SqueezeExcite(nn.Module):
    def __init__(self, inputs, units):
        super().__init__()
        self.conv, self.down, self.up = nn.Conv2d(inputs, units, 1), nn.Conv2d(units, 4, 1), nn.Conv2d(4, units, 1)
        self.act = nn.ReLU()

    def forward(self, x):
        y = self.act(self.conv(x))
        return y * torch.sigmoid(self.up(self.act(self.down(F.adaptive_avg_pool2d(y, 1)))))


class Forked(nn.Module):
    """A convolution read by an activation and by a residual stream."""

    def __init__(self, inputs, units):
        super().__init__()
        self.conv, self.back = nn.Conv2d(inputs, units, 1), nn.Conv2d(units, units, 1)

    def forward(self, x):
        y = self.conv(x)
        return y + self.back(F.relu(y))


class Overwritten(nn.Module):
    """Values that are read again after they were overwritten in place."""

    def __init__(self, inputs, units):
        super().__init__()
        self.conv, self.back, self.act = nn.Conv2d(inputs, units, 1), nn.Conv2d(units, units, 1), nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.conv(x)
        kept = y
        self.act(y)
        y += self.back(y)
        return kept + self.back(y)


class Aliased(nn.Module):
    """A sum whose one side may vanish, then added to in place while its other side is read again."""

    def __init__(self, inputs, units):
        super().__init__()
        self.one, self.two, self.three = (nn.Conv2d(inputs, units, 1) for _ in range(3))

    def forward(self, x):
        y, z = F.relu(self.one(x)), F.relu(self.two(x))
        total = y + z
        total += F.relu(self.three(x))
        return torch.cat([total, y], 1)


class Broadcast(nn.Module):
    """A sum with one number per channel."""

    def __init__(self, inputs, units):
        super().__init__()
        self.conv, self.context = nn.Conv2d(inputs, units, 1), nn.Conv2d(inputs, units, 1)
        self.after = nn.Conv2d(units, units, 3, padding=1)

    def forward(self, x):
        context = self.context(x.mean([2, 3], keepdim=True))
        return F.elu(self.after(F.relu(self.conv(x)) + F.relu(context)))


class Reused(nn.Module):
    """One convolution, one norm and one activation, each called twice."""

    def __init__(self, inputs, units):
        super().__init__()
        self.first, self.conv = nn.Conv2d(inputs, units, 1), nn.Conv2d(units, units, 3, padding=1)
        self.norm, self.act = nn.BatchNorm2d(units), nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.first(x)
        for _ in range(2):
            x = self.act(self.norm(self.conv(x)))
        return x


class TwoSums(nn.Module):
    """One value read by two sums that need different channels of it."""

    def __init__(self, inputs, units):
        super().__init__()
        self.one, self.two, self.three = (nn.Conv2d(inputs, units, 1) for _ in range(3))
        self.act = nn.GELU()

    def forward(self, x):
        shared = F.relu(self.one(x))
        left = F.relu(shared + F.relu(self.two(x)))
        right = self.act(shared + F.relu(self.three(x)))
        return torch.cat([left * right, left], 1)


class Attention(nn.Module):
    """Four heads over all positions, added to a residual stream."""

    def __init__(self, inputs, units):
        super().__init__()
        self.units, self.qkv, self.out = units, nn.Linear(inputs, 12 * units), nn.Linear(4 * units, inputs)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).unflatten(2, (3, 4, self.units)).transpose(1, 3).unbind(2)
        mixed = torch.softmax(q @ k.transpose(2, 3) * 0.3, -1) @ v
        tokens = tokens + self.out(mixed.transpose(1, 2).flatten(2))
        return tokens.transpose(1, 2).unflatten(2, (SIZE, SIZE)).contiguous()


class ActivatedHeads(nn.Module):
    """An activation on the values and one on the heads' outputs: units are masked on both sides of a reshape."""

    def __init__(self, inputs, units):
        super().__init__()
        self.qk, self.v = nn.Linear(inputs, 8 * units), nn.Linear(inputs, 4 * units)
        self.out = nn.Linear(4 * units, units)

    def forward(self, x):
        tokens = x.flatten(2).permute(0, 2, 1)
        q, k = self.qk(tokens).chunk(2, dim=2)
        q, k, v = (self.heads(one, x) for one in (q, k, F.relu(self.v(tokens))))
        mixed = F.softmax(q @ k.transpose(2, 3), dim=3) @ v
        mixed = F.relu6(mixed.transpose(1, 2).reshape(x.shape[0], SIZE * SIZE, -1))
        return self.out(mixed).transpose(1, 2).reshape(x.shape[0], -1, SIZE, SIZE).contiguous()

    def heads(self, value, x):
        return value.reshape(x.shape[0], SIZE * SIZE, 4, -1).transpose(1, 2)


BLOCKS = (
    Plain, Bare, Residual, Identity, Concat, Grouped, Depthwise, SqueezeExcite, Forked, Overwritten, Aliased, Broadcast,
    Reused, TwoSums, Attention, ActivatedHeads,
)  # fmt: skip


class Pooled(nn.Module):
    def __init__(self, inputs, units):
        super().__init__()
        self.fc = nn.Linear(inputs, CLASSES)

    def forward(self, x):
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Flattened(nn.Module):
    """Each channel becomes height x width columns, channel by channel."""

    def __init__(self, inputs, units):
        super().__init__()
        self.pool, self.drop = nn.MaxPool2d(4), nn.Dropout()
        self.one, self.two, self.fc = nn.Linear(4 * inputs, units), nn.Linear(units, units), nn.Linear(units, CLASSES)

    def forward(self, x):
        x = self.pool(x)
        x = F.relu(self.one(x.view(x.size(0), -1)))
        return self.fc(self.drop(F.relu(self.two(x), inplace=True)))


class ChannelsLast(nn.Module):
    """Linear layers with the units last, flattened position by position."""

    def __init__(self, inputs, units):
        super().__init__()
        self.one, self.fc = nn.Linear(inputs, units), nn.Linear(4 * units, CLASSES)

    def forward(self, x):
        x = F.relu(self.one(F.avg_pool2d(x, 4).permute(0, 2, 3, 1)))
        return self.fc(torch.flatten(x, 1))


class Normed(nn.Module):
    """A norm over the units, and a mean over positions."""

    def __init__(self, inputs, units):
        super().__init__()
        self.norm, self.one, self.two = nn.LayerNorm(inputs), nn.Linear(inputs, units), nn.Linear(units, inputs)
        self.fc = nn.Linear(inputs, CLASSES)

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        x = x + self.two(torch.tanh(self.one(self.norm(x))))
        return self.fc(x.mean([1, 2]))


class Convolved(nn.Module):
    """Logits out of a convolution with an activation on them, as in SqueezeNet."""

    def __init__(self, inputs, units):
        super().__init__()
        self.conv = nn.Conv2d(inputs, CLASSES, 1)

    def forward(self, x):
        return torch.flatten(F.adaptive_avg_pool2d(F.relu(self.conv(x)), 1), 1)


HEADS = (Pooled, Flattened, ChannelsLast, Normed, Convolved)


def stack(blocks, head, units):
    """A network of some blocks with so many units each, then a head; the first channels are the image's."""
    parts, channels = [], 3
    for block, width in blocks:
        parts.append(block(channels, width))
        with torch.no_grad():
            channels = parts[-1].eval()(torch.zeros(2, channels, SIZE, SIZE)).shape[1]
    return nn.Sequential(*parts, head(channels, units))


def recipes(blocks=BLOCKS, heads=HEADS):
    """Hypothesis draws of `stack`'s arguments, 4 to 16 units a layer."""
    widths = st.integers(4, 16)
    chosen = st.lists(st.tuples(st.sampled_from(blocks), widths), min_size=1, max_size=4)
    return st.tuples(chosen, st.sampled_from(heads), widths)
