"""Writes a trained checkpoint as a Hugging Face folder: config.json, model.safetensors (float32), generation_config.json and the tokenizer.

    python3 export.py CHECKPOINT TOKENIZER_FOLDER OUT_FOLDER
"""

import json
import os
import shutil
import struct
import sys

import torch

from tokenizer import BOS, END


def tensors(model, layers):
    """Hugging Face's names and the matrices, q, k, v and gate, up apart. Every matrix is [out, in]."""
    out = {'model.embed_tokens.weight': model['embed'], 'model.norm.weight': model['norm_weights.0'][-1]}
    for i in range(layers):
        at = f'model.layers.{i}'
        for name, part in zip('qkv', model[f'qkv.{i}'].chunk(3)):
            out[f'{at}.self_attn.{name}_proj.weight'] = part
        out[f'{at}.self_attn.o_proj.weight'] = model[f'out.{i}']
        for name, part in zip(('gate', 'up'), model[f'gate_up.{i}'].chunk(2)):
            out[f'{at}.mlp.{name}_proj.weight'] = part
        out[f'{at}.mlp.down_proj.weight'] = model[f'down.{i}']
        out[f'{at}.input_layernorm.weight'] = model['norm_weights.0'][2 * i]
        out[f'{at}.post_attention_layernorm.weight'] = model['norm_weights.0'][2 * i + 1]
    return {name: out[name].float().contiguous() for name in sorted(out)}


def write_safetensors(path, named):
    """Eight bytes of header length (little endian), the JSON header padded to 8 bytes, then the tensors one behind the other."""
    header, at = {'__metadata__': {'format': 'pt'}}, 0
    for name, t in named.items():
        header[name] = {'dtype': 'F32', 'shape': list(t.shape), 'data_offsets': [at, at + 4 * t.numel()]}
        at += 4 * t.numel()
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text)
        for t in named.values():
            file.write(t.numpy().astype('<f4').tobytes())


def main(checkpoint, tokenizer, out):
    saved = torch.load(checkpoint, map_location='cpu')
    s = saved['shape']
    os.makedirs(out, exist_ok=True)
    for name in ('tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json'):
        shutil.copy(f'{tokenizer}/{name}', out)
    config = {'architectures': ['LlamaForCausalLM'], 'model_type': 'llama', 'vocab_size': s['vocab'], 'hidden_size': s['hidden'], 'intermediate_size': s['ffn'], 'num_hidden_layers': s['layers'],
              'num_attention_heads': s['heads'], 'num_key_value_heads': s['heads'], 'head_dim': s['hidden'] // s['heads'], 'hidden_act': 'silu', 'max_position_embeddings': 512, 'rms_norm_eps': s['eps'],
              'rope_theta': s['theta'], 'rope_scaling': None, 'attention_bias': False, 'mlp_bias': False, 'attention_dropout': 0.0, 'initializer_range': 0.02, 'tie_word_embeddings': True, 'use_cache': True,
              'torch_dtype': 'float32', 'bos_token_id': BOS, 'eos_token_id': END, 'pad_token_id': END}
    for name, value in [('config.json', config), ('generation_config.json', {'bos_token_id': BOS, 'eos_token_id': [END], 'pad_token_id': END, 'do_sample': False})]:
        with open(f'{out}/{name}', 'w', encoding='utf-8') as file:
            json.dump(value, file, indent=2)
    write_safetensors(f'{out}/model.safetensors', tensors(saved['model'], s['layers']))
    print(f'step {saved["step"]}, {sum(t.numel() for t in saved["model"].values())} parameters -> {out}')


if __name__ == '__main__':
    main(*sys.argv[1:4])
