"""Measures an exported model: perplexity of its answers and how many greedy answers are right, on text it was not trained on.

    python3 evaluate.py HF_FOLDER [--n 30] [--bits 8] [--ask "question" ...]

Three kinds of text: `fresh` (wordings and words of training, newly drawn), `templates` (wordings never trained) and `names` (names,
objects and pairs of device and place, of adjective and object, of device and device never trained). An answer is exact when it is equal to
the grammar's, and right when it has every key of the question in it (what was asked for, the value, the state).
"""

import argparse
import json
import math
import struct

import numpy as np
import torch
import torch.nn.functional as F

from text import Writer
from tokenizer import BOS, END, Tokenizer


def read_safetensors(path):
    with open(path, 'rb') as file:
        header = json.loads(file.read(struct.unpack('<Q', file.read(8))[0]))
        data = file.read()
    return {n: torch.from_numpy(np.frombuffer(data[h['data_offsets'][0]:h['data_offsets'][1]], '<f4').reshape(h['shape']).copy()) for n, h in header.items() if n != '__metadata__'}


def rounded(t, bits):
    """A matrix [out, in] after symmetric rounding in blocks of 32 along `in`."""
    top, blocks = 2 ** (bits - 1) - 1, t.reshape(-1, 32)
    scale = blocks.abs().amax(1, keepdim=True).clamp_min(1e-12) / top
    return ((blocks / scale).round().clamp(-top, top) * scale).reshape(t.shape)


class Llama:
    """The exported model in float32 with a key-value cache, one sequence at a time."""

    def __init__(self, folder, bits=0):
        with open(f'{folder}/config.json') as file:
            self.c = json.load(file)
        self.w = read_safetensors(f'{folder}/model.safetensors')
        if bits:
            self.w = {n: rounded(t, bits) if t.dim() == 2 else t for n, t in self.w.items()}
        self.tok = Tokenizer(f'{folder}/tokenizer.json')
        size = self.c['head_dim']
        angle = torch.outer(torch.arange(2048).float(), self.c['rope_theta'] ** (-torch.arange(0, size, 2).float() / size))
        self.cos, self.sin = torch.cat([angle, angle], -1).cos(), torch.cat([angle, angle], -1).sin()

    def norm(self, x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.c['rms_norm_eps']) * self.w[f'{name}.weight']

    @torch.no_grad()
    def forward(self, ids, cache):
        """Logits (tokens, vocabulary) of ids (list) behind the tokens in `cache`, a list of [k, v] of each layer, which grows."""
        past, n, heads, w = (cache[0][0].shape[1] if cache else 0), len(ids), self.c['num_attention_heads'], self.w
        x = w['model.embed_tokens.weight'][torch.tensor(ids)]
        cos, sin = self.cos[past:past + n], self.sin[past:past + n]
        turn = lambda t: t * cos + torch.cat([-t[..., t.shape[-1] // 2:], t[..., :t.shape[-1] // 2]], -1) * sin
        mask = torch.full((n, past + n), -1e9).triu(past + 1)
        for i in range(self.c['num_hidden_layers']):
            at = f'model.layers.{i}'
            h = self.norm(x, f'{at}.input_layernorm')
            q, k, v = (F.linear(h, w[f'{at}.self_attn.{p}_proj.weight']).view(n, heads, -1).transpose(0, 1) for p in 'qkv')
            q, k = turn(q), turn(k)
            if len(cache) > i:
                k, v = torch.cat([cache[i][0], k], 1), torch.cat([cache[i][1], v], 1)
                cache[i] = [k, v]
            else:
                cache.append([k, v])
            a = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 + mask, -1) @ v
            x = x + F.linear(a.transpose(0, 1).reshape(n, -1), w[f'{at}.self_attn.o_proj.weight'])
            h = self.norm(x, f'{at}.post_attention_layernorm')
            x = x + F.linear(F.silu(F.linear(h, w[f'{at}.mlp.gate_proj.weight'])) * F.linear(h, w[f'{at}.mlp.up_proj.weight']), w[f'{at}.mlp.down_proj.weight'])
        return F.linear(self.norm(x, 'model.norm'), w['model.embed_tokens.weight'])

    def complete(self, ids, limit=240):
        """The greedy continuation of token ids, as text, up to the end mark."""
        cache, out, new = [], [], ids
        while len(out) < limit:
            token = int(self.forward(new, cache)[-1].argmax())
            if token == END:
                break
            out.append(token)
            new = [token]
        return self.tok.decode(out)

    def prompt(self, turns):
        return [BOS] + [i for role, text in turns for i in (self.tok.vocab[f'<|{role}|>'], *self.tok.encode(text), END)] + [self.tok.vocab['<|assistant|>']]

    def loss(self, turns):
        """(sum of nats, tokens) over what the assistant says, and plain text."""
        ids, weights = self.tok.chat(turns)
        each = F.cross_entropy(self.forward(ids[:-1], []), torch.tensor(ids[1:]), reduction='none')
        keep = torch.tensor(weights[1:]) == 1
        return float(each[keep].sum()), int(keep.sum())


def measure(model, mode, n, seed=990):
    """Prints a line for each kind of document: answers exact, right, and their perplexity. Returns the sums."""
    totals = dict(docs=0, exact=0, right=0, nats=0.0, tokens=0)
    for kind in Writer.KINDS:
        writer, row, tries = Writer(f'{seed} {mode} {kind}', mode), dict(docs=0, exact=0, right=0, nats=0.0, tokens=0), 0
        while row['docs'] < (n if 'story' not in kind else n // 2) and tries < 50 * n:
            tries += 1
            turns, keys = writer.one(kind)
            if mode == 'templates' and not writer.used_held:
                continue
            nats, tokens = model.loss(turns)
            row['docs'] += 1
            row['nats'] += nats
            row['tokens'] += tokens
            if kind != 'story_plain':
                got = model.complete(model.prompt(turns[:-1]))
                row['exact'] += got == turns[-1][1]
                row['right'] += all(key.lower() in got.lower() for key in keys)
        if row['docs']:
            print(f'{mode:9} {kind:15} exact {row["exact"]:3}/{row["docs"]}  right {row["right"]:3}/{row["docs"]}  perplexity {math.exp(row["nats"] / row["tokens"]):.3f}', flush=True)
            for key in totals:
                totals[key] += row[key] if key not in ('docs',) or kind != 'story_plain' else 0
    print(f'{mode:9} {"ALL":15} exact {totals["exact"]}/{totals["docs"]}  right {totals["right"]}/{totals["docs"]}  perplexity {math.exp(totals["nats"] / totals["tokens"]):.3f}', flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument('folder')
    p.add_argument('--n', type=int, default=30)
    p.add_argument('--bits', type=int, default=0)
    p.add_argument('--modes', default='fresh,templates,names')
    p.add_argument('--ask', nargs='*')
    p.add_argument('--text', nargs='*')
    p.add_argument('--questions', help='a file of questions, one a line, the turns of a longer chat with " | " between them; prints a list in Markdown')
    o = p.parse_args()
    torch.set_num_threads(1)
    model = Llama(o.folder, o.bits)
    for question in o.ask or []:
        print(f'> {question}\n{model.complete(model.prompt([("user", question)]))}\n')
    for text in o.text or []:
        print(f'{text}{model.complete([BOS] + model.tok.encode(text))}\n')
    if o.questions:
        with open(o.questions, encoding='utf-8') as file:
            for number, line in enumerate(file.read().splitlines(), 1):
                turns, shown = [], []
                for question in line.split(' | '):
                    turns.append(('user', question))
                    turns.append(('assistant', model.complete(model.prompt(turns))))
                    shown.append(f'**{question}**<br>\n   {turns[-1][1]}')
                print(f'{number}. ' + '<br>\n   '.join(shown))
    elif not o.ask and not o.text:
        for mode in o.modes.split(','):
            measure(model, 'train' if mode == 'fresh' else mode, o.n)


if __name__ == '__main__':
    main()
