"""A byte-level BPE in the format of Hugging Face's tokenizer.json: trained here, and encoding here while training the model.

Text is cut into words (with the space before them), single digits and runs of other signs; each piece is merged on its own.
"""

import collections
import functools
import json
import re

SPECIALS = ['<|bos|>', '<|end|>', '<|user|>', '<|assistant|>', '<|system|>']
BOS, END = 0, 1
ASKED = 0.1
PATTERN = r' ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]+|\s+'
TEMPLATE = ("{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}")


def byte_letters():
    """The 256 printable letters that stand for the bytes 0 to 255, as GPT-2 chose them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 0
    for b in range(256):
        table[b] = chr(b) if b in plain else chr(256 + extra)
        extra += b not in plain
    return table


LETTERS = byte_letters()


def pieces(text):
    """The text's pieces, each as a string of byte letters."""
    return [''.join(LETTERS[b] for b in p.encode()) for p in re.findall(PATTERN, text)]


def train(texts, size):
    """A vocabulary of `size` tokens (specials, 256 bytes, then merges), as (vocab: token -> id, merges: list of pairs)."""
    words = collections.Counter(p for t in texts for p in pieces(t))
    split = {p: list(p) for p in words}
    counts, where = collections.Counter(), collections.defaultdict(set)
    for p, parts in split.items():
        for pair in zip(parts, parts[1:]):
            counts[pair] += words[p]
            where[pair].add(p)
    tokens, merges = SPECIALS + [LETTERS[b] for b in range(256)], []
    while len(tokens) < size:
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        tokens.append(''.join(best))
        for p in list(where[best]):
            parts = split[p]
            for pair in zip(parts, parts[1:]):
                counts[pair] -= words[p]
                if counts[pair] <= 0:
                    del counts[pair]
            split[p] = parts = merge(parts, best)
            for pair in zip(parts, parts[1:]):
                counts[pair] += words[p]
                where[pair].add(p)
        counts.pop(best, None)
    return {t: i for i, t in enumerate(tokens)}, merges


def merge(parts, pair):
    out, i = [], 0
    while i < len(parts):
        if i + 1 < len(parts) and (parts[i], parts[i + 1]) == pair:
            out.append(parts[i] + parts[i + 1])
            i += 2
        else:
            out.append(parts[i])
            i += 1
    return out


class Tokenizer:
    def __init__(self, path):
        """Reads a tokenizer.json that `save` wrote."""
        with open(path, encoding='utf-8') as file:
            model = json.load(file)['model']
        self.vocab = {**model['vocab']}
        self.rank = {tuple(m): i for i, m in enumerate(model['merges'])}
        self.names = {i: t for t, i in self.vocab.items()}
        self.bytes = {letter: b for b, letter in LETTERS.items()}
        self.piece = functools.lru_cache(200_000)(self.encode_piece)

    def encode_piece(self, piece):
        parts = list(piece)
        while len(parts) > 1:
            best = min(zip(parts, parts[1:]), key=lambda pair: self.rank.get(pair, 1 << 30))
            if best not in self.rank:
                break
            parts = merge(parts, best)
        return tuple(self.vocab[p] for p in parts)

    def encode(self, text):
        """Token ids of plain text, no specials."""
        return [i for p in pieces(text) for i in self.piece(p)]

    def chat(self, turns):
        """(ids, weights) of a document: weight 1 on what the model is to say, 0 on role marks, `ASKED` on what users say."""
        ids, weights = [BOS], [0.0]
        for role, text in turns:
            body = self.encode(text) + [END]
            if role != 'text':
                ids.append(self.vocab[f'<|{role}|>'])
                weights.append(0.0)
            ids += body
            weights += [1.0 if role in ('assistant', 'text') else ASKED] * len(body)
        return ids, weights

    def decode(self, ids):
        return bytes(self.bytes[c] for i in ids if i >= len(SPECIALS) for c in self.names[i]).decode('utf-8', 'replace')


def save(folder, vocab, merges):
    """Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
    special = [{'id': i, 'content': t, 'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False, 'special': True} for i, t in enumerate(SPECIALS)]
    byte_level = {'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True, 'use_regex': False}
    bos = {'SpecialToken': {'id': SPECIALS[BOS], 'type_id': 0}}
    whole = {
        'version': '1.0', 'truncation': None, 'padding': None, 'added_tokens': special, 'normalizer': None,
        'pre_tokenizer': {'type': 'Sequence', 'pretokenizers': [{'type': 'Split', 'pattern': {'Regex': PATTERN}, 'behavior': 'Isolated', 'invert': False}, byte_level]},
        'post_processor': {'type': 'TemplateProcessing', 'single': [bos, {'Sequence': {'id': 'A', 'type_id': 0}}], 'pair': [bos, {'Sequence': {'id': 'A', 'type_id': 0}}, {'Sequence': {'id': 'B', 'type_id': 1}}],
                           'special_tokens': {SPECIALS[BOS]: {'id': SPECIALS[BOS], 'ids': [BOS], 'tokens': [SPECIALS[BOS]]}}},
        'decoder': byte_level,
        'model': {'type': 'BPE', 'dropout': None, 'unk_token': None, 'continuing_subword_prefix': None, 'end_of_word_suffix': None, 'fuse_unk': False, 'byte_fallback': False, 'ignore_merges': False,
                  'vocab': vocab, 'merges': [list(m) for m in merges]},
    }
    config = {'tokenizer_class': 'PreTrainedTokenizerFast', 'bos_token': SPECIALS[BOS], 'eos_token': SPECIALS[END], 'pad_token': SPECIALS[END], 'add_bos_token': True, 'add_eos_token': False,
              'clean_up_tokenization_spaces': False, 'model_max_length': 512, 'chat_template': TEMPLATE,
              'added_tokens_decoder': {str(s['id']): {key: value for key, value in s.items() if key != 'id'} for s in special}}
    for name, value in [('tokenizer.json', whole), ('tokenizer_config.json', config), ('special_tokens_map.json', {'bos_token': SPECIALS[BOS], 'eos_token': SPECIALS[END], 'pad_token': SPECIALS[END]})]:
        with open(f'{folder}/{name}', 'w', encoding='utf-8') as file:
            json.dump(value, file, ensure_ascii=False, indent=1)


if __name__ == '__main__':
    import os
    import sys

    from text import Writer
    folder, size = sys.argv[1], int(sys.argv[2])
    os.makedirs(folder, exist_ok=True)
    writer = Writer(7)
    texts = [text for _ in range(20_000) for _, text in writer.document()]
    save(folder, *train(texts, size))
    tok, total, docs = Tokenizer(f'{folder}/tokenizer.json'), 0, [writer.document() for _ in range(2000)]
    sizes = sorted(len(tok.chat(d)[0]) for d in docs)
    print(f'{size} tokens; a document has {sum(sizes) / 2000:.1f} tokens on average, {sizes[1000]} in the median, {sizes[1900]} at the 95th percentile, {sizes[-1]} at most')
