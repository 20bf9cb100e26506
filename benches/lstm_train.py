"""The yardstick of lstm_train: the same encoder-decoder network in PyTorch, on the same batches from the same weights.

lstm_train.py FOLDER THREADS reads FOLDER/shape.json and the raw little-endian f32 arrays beside it. For each line of
standard input, which is a number of steps, it trains so many steps from the first weights and answers with the seconds
that they took, those of the processor, and the mean loss of the last ten.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

folder, threads = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(threads)
torch.set_num_interop_threads(1)
shape = json.loads((folder / "shape.json").read_text())
BATCHES, BATCH, HIDDEN = shape["batches"], shape["batch"], shape["hidden"]
ENCODER_STEPS, ENCODER_INPUTS = shape["encoder_steps"], shape["encoder_inputs"]
DECODER_STEPS, DECODER_INPUTS = shape["decoder_steps"], shape["decoder_inputs"]
LEVELS = torch.tensor(shape["levels"])
MIDDLE, RATE = shape["middle"], shape["rate"]
LOG_MAX = 5.0


def read(name, *sizes):
    return torch.from_numpy(np.fromfile(folder / name, dtype="<f4").reshape(sizes))


encoder = read("encoder.f32", BATCHES, ENCODER_STEPS, BATCH, ENCODER_INPUTS)
decoder = read("decoder.f32", BATCHES, DECODER_STEPS, BATCH, DECODER_INPUTS)
targets = read("targets.f32", BATCHES, DECODER_STEPS, BATCH)
bases, offsets = read("bases.f32", BATCHES, BATCH), read("offsets.f32", BATCHES, BATCH)
weights = np.fromfile(folder / "weights.f32", dtype="<f4")


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(ENCODER_INPUTS, HIDDEN)
        self.decoder = nn.LSTM(DECODER_INPUTS, HIDDEN)
        self.head_state = nn.Linear(HIDDEN, len(LEVELS))
        self.head_input = nn.Linear(DECODER_INPUTS, len(LEVELS), bias=False)
        at = 0

        def take(rows, columns):
            nonlocal at
            part = torch.from_numpy(weights[at : at + rows * columns].reshape(rows, columns).copy())
            at += rows * columns
            return part

        with torch.no_grad():
            for layer, inputs in ((self.encoder, ENCODER_INPUTS), (self.decoder, DECODER_INPUTS)):
                layer.weight_ih_l0.copy_(take(inputs, 4 * HIDDEN).T)
                layer.weight_hh_l0.copy_(take(HIDDEN, 4 * HIDDEN).T)
                layer.bias_ih_l0.copy_(take(1, 4 * HIDDEN)[0])
                # One bias is enough; a second one that learns would learn twice as fast.
                layer.bias_hh_l0.zero_().requires_grad_(False)
            # The embedding of services and its product with the gates: no service in this comparison.
            take(1, 4)
            take(4, 4 * HIDDEN)
            self.head_state.weight.copy_(take(HIDDEN, len(LEVELS)).T)
            self.head_input.weight.copy_(take(DECODER_INPUTS, len(LEVELS)).T)
            self.head_state.bias.copy_(take(1, len(LEVELS))[0])

    def forward(self, encoder, decoder):
        _, last = self.encoder(encoder)
        states, _ = self.decoder(decoder, last)
        head = self.head_state(states) + self.head_input(decoder)
        median = head[..., MIDDLE : MIDDLE + 1]
        gaps = nn.functional.softplus(head)
        above = median + torch.cumsum(gaps[..., MIDDLE + 1 :], -1)
        below = median - torch.flip(torch.cumsum(torch.flip(gaps[..., :MIDDLE], [-1]), -1), [-1])
        return torch.cat([below, median, above], -1).clamp(-LOG_MAX, LOG_MAX)


def train(steps):
    network = Network()
    learnt = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(learnt, lr=RATE, eps=1e-8, fused=True)
    losses = []
    begin, used = time.perf_counter(), time.process_time()
    for step in range(steps):
        k = step % BATCHES
        optimizer.zero_grad(set_to_none=True)
        values = bases[k][None, :, None] * network(encoder[k], decoder[k]).exp() - offsets[k][None, :, None]
        miss = targets[k][..., None] - values
        loss = torch.maximum(LEVELS * miss, (LEVELS - 1) * miss).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        losses.append(loss.item())
    last = losses[-10:]
    return time.perf_counter() - begin, time.process_time() - used, sum(last) / len(last)


print(torch.__version__, flush=True)
for line in sys.stdin:
    print(*train(int(line)), flush=True)
