"""Trains the bundled model, or its draft: a Llama with tied embeddings, on fresh text from text.py at every step.

    python3 train.py TOKENIZER_FOLDER OUT_FOLDER [--shape model|draft] [--float32] [--steps N] [--stop N]

The number of steps fixes the schedule, so a slow machine gives the same weights later. OUT_FOLDER/last.*.pt are written every 250 steps and
picked up again (the rest of the run is the same). Two processes with a thread each share a step, since on a
busy machine two threads wait for each other at every operation. Matrices are learned with Muon (momentum made orthogonal by Newton-Schulz), everything else with AdamW.
"""

import argparse
import json
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

from text import Writer
from tokenizer import Tokenizer

COMMON = dict(vocab=1536, theta=10000.0, eps=1e-5)
SHAPES = {
    'model': dict(COMMON, hidden=192, layers=8, heads=3, ffn=512),
    # About a tenth of the model's products a token. Two layers at least: copying what was said takes two.
    'draft': dict(COMMON, hidden=96, layers=2, heads=3, ffn=256),
}
STEPS = {'model': 2100, 'draft': 1200}
COMPUTE = torch.bfloat16  # of large products; see --float32
FLAT = 0.6               # share of the steps after which the rates fall
MATRIX_RATE, SMALL_RATE = 0.01, 0.002  # top learning rates of Muon and of AdamW
TOKENS = 4096           # a step's tokens, over the rows of both processes
SHORT, LONG = 256, 512  # tokens in a row, before and after LONG_FROM
LONG_FROM = 0.8        # share of the steps with short rows
BLOCK = 128            # queries that attend in one go


class Model(torch.nn.Module):
    """A Llama decoder in one module. Float32 parameters, computation in COMPUTE; q, k, v and gate, up share a matrix each."""

    def __init__(self, vocab, hidden, layers, heads, ffn, theta, eps):
        super().__init__()
        self.heads, self.eps, self.theta = heads, eps, theta
        draw = lambda out, inner, std: torch.nn.Parameter(torch.randn(out, inner) * std)
        std, deep = hidden ** -0.5, hidden ** -0.5 / math.sqrt(2 * layers)
        self.embed = draw(vocab, hidden, 0.02)
        self.qkv = torch.nn.ParameterList([draw(3 * hidden, hidden, std) for _ in range(layers)])
        self.out = torch.nn.ParameterList([draw(hidden, hidden, deep) for _ in range(layers)])
        self.gate_up = torch.nn.ParameterList([draw(2 * ffn, hidden, std) for _ in range(layers)])
        self.down = torch.nn.ParameterList([draw(hidden, ffn, deep) for _ in range(layers)])
        self.norm_weights = torch.nn.ParameterList([torch.nn.Parameter(torch.ones(2 * layers + 1, hidden))])

    def norm(self, x, i):
        """RMS norm of x (rows, tokens, hidden) with the i-th weight, as COMPUTE."""
        return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.norm_weights[0][i]).to(COMPUTE)

    def rope(self, tokens):
        """cos and sin, each (1, 1, tokens, head size), the halves rotated as in Hugging Face's Llama."""
        size = self.embed.shape[1] // self.heads
        angle = torch.outer(torch.arange(tokens).float(), self.theta ** (-torch.arange(0, size, 2).float() / size))
        angle = torch.cat([angle, angle], -1)[None, None]
        return angle.cos().to(COMPUTE), angle.sin().to(COMPUTE)

    def forward(self, ids, mask):
        """Hidden states (rows, tokens, hidden) after the last norm, for ids (rows, tokens) and an additive mask (rows, 1, tokens, tokens)."""
        x = F.embedding(ids, self.embed)
        rows, tokens, hidden = x.shape
        cos, sin = self.rope(tokens)
        turn = lambda t: t * cos + torch.cat([-t[..., t.shape[-1] // 2:], t[..., :t.shape[-1] // 2]], -1) * sin
        for i in range(len(self.qkv)):
            q, k, v = F.linear(self.norm(x, 2 * i), self.qkv[i].to(COMPUTE)).view(rows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            q, k = turn(q) * (q.shape[-1] ** -0.5), turn(k)
            parts = []
            for at in range(0, tokens, BLOCK):
                to = min(at + BLOCK, tokens)
                scores = q[:, :, at:to] @ k[:, :, :to].transpose(-1, -2) + mask[:, :, at:to, :to]
                parts.append(torch.softmax(scores, -1) @ v[:, :, :to])
            x = x + F.linear(torch.cat(parts, 2).transpose(1, 2).reshape(rows, tokens, hidden), self.out[i].to(COMPUTE))
            gate, up = F.linear(self.norm(x, 2 * i + 1), self.gate_up[i].to(COMPUTE)).chunk(2, -1)
            x = x + F.linear(F.silu(gate.float()).to(COMPUTE) * up, self.down[i].to(COMPUTE))
        return self.norm(x, -1)

    def logits(self, hidden):
        return F.linear(hidden, self.embed.to(COMPUTE)).float()


class Muon:
    """Momentum whose update is made orthogonal; the matrices are stacked by shape so that Newton-Schulz runs in batches."""

    def __init__(self, matrices, hidden, momentum=0.95, decay=0.01):
        self.momentum, self.decay, self.groups = momentum, decay, {}
        for p in matrices:
            views = p.data.chunk(p.shape[0] // hidden) if p.shape[0] == 3 * hidden else p.data.chunk(2) if p.shape[0] > 3 * hidden else [p.data]
            for n, view in enumerate(views):
                self.groups.setdefault(tuple(view.shape), []).append((p, n, len(views), view))
        self.state = {shape: torch.zeros(len(group), *shape) for shape, group in self.groups.items()}

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state

    def step(self, rate):
        for shape, group in self.groups.items():
            grad = torch.stack([p.grad.chunk(n)[i] for p, i, n, _ in group])
            m = self.state[shape].mul_(self.momentum).add_(grad, alpha=1 - self.momentum)
            u = orthogonal(grad.lerp(m, self.momentum))
            scale = 0.2 * math.sqrt(max(shape))
            for (_, _, _, view), update in zip(group, u):
                view.mul_(1 - rate * self.decay).add_(update, alpha=-rate * scale)


def orthogonal(g):
    """g (n, rows, columns) with all singular values near 1, by five steps of Newton-Schulz in COMPUTE."""
    x = g.to(COMPUTE)
    flip = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if flip else x
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).contiguous()
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * (gram @ gram)) @ x
    return (x.transpose(1, 2) if flip else x).float()


class Rows:
    """Rows of whole documents: `next(width)` gives ids, targets, weights and document numbers, each (TOKENS / 2 / width, width)."""

    def __init__(self, tok, seed):
        self.tok, self.seed, self.count, self.waiting = tok, seed, 0, []

    def document(self):
        self.count += 1
        ids, weights = self.tok.chat(Writer(self.seed * 100_000_000 + self.count).document())
        return ids, weights

    def next(self, width):
        n = TOKENS // 2 // width
        ids, weights, docs = np.zeros((n, width + 1), np.int64), np.zeros((n, width + 1), np.float32), np.zeros((n, width + 1), np.int64)
        for row in range(n):
            at = 0
            while at < width + 1:
                while len(self.waiting) < 24:
                    self.waiting.append(self.document())
                fitting = [i for i, d in enumerate(self.waiting) if len(d[0]) <= width + 1 - at]
                i = fitting[0] if fitting else min(range(len(self.waiting)), key=lambda j: len(self.waiting[j][0]))
                if at and not fitting:
                    break
                d, weight = self.waiting.pop(i)
                size = min(len(d), width + 1 - at)
                ids[row, at:at + size], weights[row, at:at + size], docs[row, at:at + size] = d[:size], weight[:size], at + 1
                at += size
        return torch.from_numpy(ids[:, :-1]), torch.from_numpy(ids[:, 1:]), torch.from_numpy(weights[:, 1:] * (docs[:, 1:] == docs[:, :-1])), torch.from_numpy(docs[:, :-1])


def mask_of(docs):
    """Additive mask (rows, 1, tokens, tokens), COMPUTE: only earlier tokens of the same document."""
    tokens = docs.shape[1]
    allowed = (docs[:, :, None] == docs[:, None, :]) & torch.ones(tokens, tokens, dtype=torch.bool).tril()
    return torch.zeros(allowed.shape, dtype=COMPUTE).masked_fill_(~allowed, -30000.0)[:, None]


def loss_of(model, batch):
    """Weighted mean cross-entropy in nats."""
    ids, targets, weights, docs = batch
    keep = weights.reshape(-1) > 0
    hidden = model(ids, mask_of(docs)).reshape(-1, model.embed.shape[1])[keep]
    each = F.cross_entropy(model.logits(hidden), targets.reshape(-1)[keep], reduction='none')
    weights = weights.reshape(-1)[keep]
    return (each * weights).sum() / weights.sum()


def rate_at(step, steps, warm=100):
    """Share of the top learning rate: warm-up, flat, then down to 2 % along a cosine."""
    if step < warm:
        return (step + 1) / warm
    part = max(0.0, (step / steps - FLAT) / (1 - FLAT))
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part))


def work(rank, o, tok, model, grads, barrier):
    """One of two processes with one thread each. Both hold `model` in shared memory and take half of a step's rows; `grads[rank]` takes the
    gradients. Then process 0 updates what AdamW learns and process 1 what Muon learns, and both go on."""
    torch.set_num_threads(1)
    rows, probe_rows = Rows(tok, 10 + rank), Rows(tok, 2)
    params = list(model.parameters())
    small, matrices = params[:1] + params[-1:], params[1:-1]
    optimizer = Muon(matrices, model.embed.shape[1]) if rank else torch.optim.AdamW(
        [{'params': small[:1], 'weight_decay': 0.01}, {'params': small[1:], 'weight_decay': 0.0}], lr=SMALL_RATE, betas=(0.9, 0.95))
    own = matrices if rank else small
    start, last = 0, f'{o.out}/last.{rank}.pt'
    if os.path.exists(last):
        saved = torch.load(last)
        start, rows.count, rows.waiting = saved['step'], saved['count'], saved['waiting']
        optimizer.load_state_dict(saved['optimizer'])
        for p, data in zip(own, saved['own']):
            p.data.copy_(data)
    probe = [probe_rows.next(LONG) for _ in range(8)][rank::2]
    began = shown = time.time()
    total, at_shown = 0.0, start
    barrier.wait()
    for step in range(start, o.stop or o.steps):
        loss = loss_of(model, rows.next(SHORT if step < LONG_FROM * o.steps else LONG))
        loss.backward()
        for p, g in zip(params, grads[rank]):
            g.copy_(p.grad)
        barrier.wait()
        mean = [grads[0][i] + grads[1][i] for i in range(len(params))]
        norm = 0.5 * math.sqrt(sum(float(g.pow(2).sum()) for g in mean))
        for p, g in zip(params, mean):
            p.grad = g.mul_(0.5 * min(1.0, 1 / (norm + 1e-6)))
        part = rate_at(step, o.steps)
        if rank:
            optimizer.step(MATRIX_RATE * part)
        else:
            for group in optimizer.param_groups:
                group['lr'] = SMALL_RATE * part
            optimizer.step()
        for p in params:
            p.grad = None
        barrier.wait()
        total += float(loss)
        done = step + 1
        if done % 250 == 0 or done == (o.stop or o.steps):
            with torch.no_grad():
                print(f'{done} held out, half {rank}: {sum(float(loss_of(model, b)) for b in probe) / len(probe):.4f}', flush=True)
            torch.save({'step': done, 'count': rows.count, 'waiting': rows.waiting, 'optimizer': optimizer.state_dict(), 'own': [p.data.clone() for p in own],
                        'model': model.state_dict(), 'shape': o.shape}, last + '.new')
            os.replace(last + '.new', last)
            barrier.wait()
        if done % 50 == 0 and rank == 0:
            now = time.time()
            print(f'{done} train {total / (done - at_shown):.4f} {(done - at_shown) * TOKENS / (now - shown):.0f} tok/s {(now - began) / 60:.1f} min, {(o.steps - done) * (now - shown) / (done - at_shown) / 60:.0f} min left', flush=True)
            total, shown, at_shown = 0.0, now, done


def main():
    p = argparse.ArgumentParser()
    p.add_argument('tokenizer')
    p.add_argument('out')
    p.add_argument('--shape', choices=SHAPES, default='model')
    p.add_argument('--float32', action='store_true', help='compute in float32: faster than bfloat16 on a processor without AVX512_BF16 and AMX')
    p.add_argument('--steps', type=int)
    p.add_argument('--stop', type=int, default=0, help='end after this many steps without changing the schedule')
    o = p.parse_args()
    o.steps = o.steps or STEPS[o.shape]
    if o.float32:
        global COMPUTE
        COMPUTE = torch.float32
    os.makedirs(o.out, exist_ok=True)
    torch.manual_seed(1)
    torch.set_num_threads(1)
    tok = Tokenizer(f'{o.tokenizer}/tokenizer.json')
    o.shape = {**SHAPES[o.shape], 'vocab': len(tok.vocab)}
    model = Model(**o.shape).share_memory()
    print(json.dumps({'parameters': sum(x.numel() for x in model.parameters()), **vars(o)}), flush=True)
    grads = [[torch.zeros_like(x.data).share_memory_() for x in model.parameters()] for _ in range(2)]
    fork = torch.multiprocessing.get_context('fork')
    barrier = fork.Barrier(2)
    others = [fork.Process(target=work, args=(rank, o, tok, model, grads, barrier)) for rank in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join()


if __name__ == '__main__':
    main()
