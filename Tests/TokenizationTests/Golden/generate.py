"""Writes the golden files beside this script: tiny tokenizers made here and what Hugging Face makes of hostile texts with them.

Needs `tokenizers` 0.23 and `transformers` 5; run from anywhere: python3 generate.py
"""
import datetime
import json
import os

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers, Regex
from transformers import PreTrainedTokenizerFast
from transformers.tokenization_utils_base import generate_merges
from transformers.utils import chat_template_utils

here = os.path.dirname(os.path.abspath(__file__))

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "My order has not arrived. I ordered a kettle on Monday, and today it is Friday; where is it?",
    "I'm sorry to hear that. We've sent a new kettle today, and you'll have it by Thursday.",
    "Numbers like 1234567890, 3.14159 and 2024-07-26 are cut into pieces by some and kept by others.",
    "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))  # prints 3\n",
    "Der Kaffee war heiß, die Straße nass, und über allem lag Nebel. Ça va? Où est-il né, Zoë?",
    "Привет, мир! Как дела сегодня? Хорошо, спасибо.",
    "你好，世界。今天天气很好。日本語のテキストもあります。안녕하세요 세계",
    "Emoji 😀 👍🏽 👨‍👩‍👧 are several bytes, and e\u0301 is not é until someone composes it.",
    "DON'T SHOUT, it's rude; they'd rather we'd whisper.\tTabs\tand  double  spaces   count.",
] * 3

TEXTS = [
    "", " ", "   ", "\n", "\r\n", " \n \n", "a", " a", "Hello, world!", "  two  spaces  ", "trailing space ", "tab\tand\r\nCRLF\r\n\r\n  x",
    "don't DON'T we'Ve I'LL it'\u017f ''s 's", "1 12 123 1234 12345 3.14 \u0663\u0661 \u00bd \u00b2 \u2167 \u2460",
    "caf\u00e9 cafe\u0301 \u212b \u00c5 A\u030a \ufb01 \u0130 \u1e9e \u03a3\u03c2", "a\u0323\u0307 a\u0307\u0323 \uac01 \u1100\u1161\u11a8 \u0958",
    "\u4f60\u597d\u4e16\u754c \u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4", "\u041f\u0440\u0438\u0432\u0435\u0442 \u0645\u0631\u062d\u0628\u0627 \u0e44\u0e17\u0e22 \u0938\u094d\u0924\u0947",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea \u2764\ufe0f", "\u00a0nbsp\u2028line\u3000wide\u200bzero\ufeffbom\u0085nel",
    "\x00\x01\x1f\x7f \x0b\x0c\x1c", "\U0010ffff\ufffd\ufffe \ue000", "<s>Hi</s>", "a<s>b <s> c</s>", " <unk> <|end|>  x<|end|>y", "<|END|> <|end|><|end|>",
    "\u2581under \u2581\u2581score\u2581", "<0x0A> <0xE4>", "f(x)=[a+b]*{c}-\"d\"; //!?#$%&@^~`|\\", "HTTPServer camelCase snake_case kebab-case",
    "https://example.org/a?b=c&d=%20e", "x = 1\n    y = 2\n\n\n\tz", "ab abc aabbcc bcbc abab", "The the tHE thethe <X> <x> <X><X>  <X>  ", "zz zzz hello helloo lo",
    "newer \u09fe\u1bf2 \u1acf \U00011de0 \u088f \U000323b0", "word" * 40, "ab " * 60,
]


def write(path, value, indent=None):
    path = os.path.join(here, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=True, indent=indent, separators=None if indent else (",", ":"))
        file.write("\n")


def golden(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    special = tokenizer.encode(text).ids
    return {
        "text": text, "ids": ids, "ids_special": special, "decoded": tokenizer.decode(ids, skip_special_tokens=False),
        "decoded_special_skipped": tokenizer.decode(special, skip_special_tokens=True),
    }


def family(name, tokenizer, config, extra=None):
    document = json.loads(tokenizer.to_str())
    for key, value in (extra or {}).items():
        document[key] = value
    write(f"families/{name}/tokenizer.json", document)
    write(f"families/{name}/tokenizer_config.json", {"model_max_length": 1000000000000000019884624838656, **config}, 1)
    tokenizer = Tokenizer.from_file(os.path.join(here, f"families/{name}/tokenizer.json"))
    write(f"families/{name}/golden.json", [golden(tokenizer, text) for text in TEXTS])


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level(pre, specials, normalizer=None, post=None, ignore_merges=False, size=420):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    if post:
        tokenizer.post_processor = post(tokenizer)
    return tokenizer


def split(pattern):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def bos_template(tokenizer, bos="<s>"):
    return processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))])


def sentencepiece_style(normalizer, pre, added, scores_from=None):
    """A vocabulary with scores, as SentencePiece trains it, and the merges transformers derives from the scores."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "\u2581")
    trainer = trainers.BpeTrainer(vocab_size=330, show_progress=False, max_token_length=8)
    trained.train_from_iterator([" " + line for line in CORPUS[:6]], trainer)
    pieces = [token for token, _ in sorted(trained.get_vocab().items(), key=lambda item: item[1])]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    types = [2, 3, 3] + [6] * 256
    long = [token for token in pieces if len(token) > 1]
    single = sorted(token for token in pieces if len(token) == 1 and token != "\n")
    scores = [0.0] * len(tokens) + [-float(index) for index in range(len(long))] + [-float(len(long) + i) for i in range(len(single))]
    tokens += long + single
    types += [1] * (len(long) + len(single))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = generate_merges(
        vocabulary, {token: score for token, score, kind in zip(tokens, scores, types) if kind == 1})
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre:
        tokenizer.pre_tokenizer = pre
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ("<unk>", "<s>", "</s>")])
    for token in added:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = bos_template(tokenizer)
    return tokenizer, {"model": "llama", "tokens": tokens, "scores": scores, "token_type": types, "unknown_token_id": 0,
                       "bos_token_id": 1, "eos_token_id": 2}


def families():
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False)
    config = {"bos_token": "<s>", "eos_token": "</s>"}
    family("gpt2", byte_level(byte, ["<s>", "</s>"], post=lambda _: processors.ByteLevel(trim_offsets=False)), config)
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte])
    family("smollm", byte_level(digits, ["<s>", "</s>"]), {"bos_token": {"__type": "AddedToken", "content": "<s>"}, "eos_token": "</s>"})
    family("llama3", byte_level(
        split(LLAMA3), ["<s>", "</s>"], ignore_merges=True,
        post=lambda t: processors.Sequence([processors.ByteLevel(trim_offsets=False), bos_template(t)])), config)
    family("qwen2", byte_level(split(LLAMA3.replace("{1,3}", "")), ["<|endoftext|>", "<s>"], normalizer=normalizers.NFC()),
           {"bos_token": None, "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"})
    # A pattern without a hand-written matcher: words cut where lower case turns to upper.
    camel = r"[^\r\n\p{L}\p{N}]?\p{Lu}*[\p{Ll}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?\p{Lu}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    family("camel", byte_level(split(camel), ["<s>", "</s>"]), config)
    legacy = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer, gguf = sentencepiece_style(legacy, None, [])
    family("llama2", tokenizer, {**config, "unk_token": "<unk>"})
    write("families/llama2/gguf.json", gguf)
    end = AddedToken("<|end|>", rstrip=True, normalized=False, special=True)
    tokenizer, _ = sentencepiece_style(legacy, None, [end, AddedToken("zz", normalized=True, special=False)])
    family("phi3", tokenizer, {**config, "unk_token": "<unk>"})
    meta = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="first", split=False)
    tokenizer, _ = sentencepiece_style(None, meta, [end])
    family("mistral", tokenizer, {**config, "unk_token": "<unk>"})


def components():
    """One tokenizer.json per component and option, all with one small model."""
    characters = [chr(code) for code in range(0x20, 0x7F)] + list(
        "\u2581\u00e9\u00f1\u4f60\u597d\u4e16\u754c\uac00\u03a3\u03c3\u03c2\u00df\u0130\u0131\u017f\u00c5\ufb01\u00bd\u00b2\u0663\n\t\u00a0\u0301\u3000\u0120\u010a")
    vocabulary = {}
    for token in ["<unk>"] + characters + [f"<0x{byte:02X}>" for byte in range(256)]:
        vocabulary.setdefault(token, len(vocabulary))
    merges = [["a", "b"], ["ab", "c"], ["b", "c"], ["a", "bc"], ["\u2581", "a"], ["l", "l"], ["1", "2"], [" ", " "], ["t", "h"],
              ["th", "e"], ["\u2581", "the"], ["e", "\u2581"]]
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    size = len(vocabulary)
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocabulary, "merges": merges}

    def added(index, content, **options):
        return {"id": size + index, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": True, **options}

    cases = {}

    def case(name, vocab=(), merges=(), **document):
        # `vocab` and `merges` come on top of the shared model's.
        cases[name] = {"document": document, "vocab": list(vocab), "merges": list(merges)}

    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"):
        case(f"normalizer {form}", normalizer={"type": form})
    case("normalizer Sequence", normalizer={"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]})
    always = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
    case("normalizer Strip", normalizer={"type": "Strip", "strip_left": True, "strip_right": True}, pre_tokenizer=always)
    case("normalizer Replace Regex", normalizer={"type": "Replace", "pattern": {"Regex": "\\s{2,}|b+"}, "content": " x"})
    case("normalizer ByteLevel", normalizer={"type": "ByteLevel"})
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            case(f"Split Regex {behavior} invert={invert}", pre_tokenizer={
                "type": "Split", "pattern": {"Regex": "\\d|[ab]+|\\s"}, "behavior": behavior, "invert": invert})
        case(f"Split String {behavior}", pre_tokenizer={"type": "Split", "pattern": {"String": "a"}, "behavior": behavior, "invert": False})
        case(f"Punctuation {behavior}", pre_tokenizer={"type": "Punctuation", "behavior": behavior})
    for individual in (True, False):
        case(f"Digits {individual}", pre_tokenizer={"type": "Digits", "individual_digits": individual})
    plain = [added(0, "<x>"), added(1, "zz", special=False, normalized=True)]
    for scheme in ("always", "first", "never"):
        for cut in (True, False):
            metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": cut}
            case(f"Metaspace {scheme} split={cut}", pre_tokenizer=metaspace, decoder=metaspace, added_tokens=plain)
    case("Whitespace", pre_tokenizer={"type": "Whitespace"})
    case("WhitespaceSplit", pre_tokenizer={"type": "WhitespaceSplit"})
    first = {**always, "prepend_scheme": "first"}
    case("WhitespaceSplit then Metaspace", pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, first]})
    steps = [{"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 2, "stop": 0}]
    for fuse in (True, False):
        for fallback in (True, False):
            case(f"fuse_unk={fuse} byte_fallback={fallback}", model={"fuse_unk": fuse, "byte_fallback": fallback},
                 decoder={"type": "Sequence", "decoders": steps})
    case("no unknown token", model={"unk_token": None})
    case("ignore_merges", vocab=["hello"], model={"ignore_merges": True}, pre_tokenizer={"type": "WhitespaceSplit"})
    letters = "abcdefghijklmnopqrstuvwxyz"
    case("end_of_word_suffix", vocab=[letter + "</w>" for letter in letters] + ["lo</w>"], merges=[["l", "o</w>"]],
         model={"end_of_word_suffix": "</w>"}, pre_tokenizer={"type": "Whitespace"})
    case("continuing_subword_prefix", vocab=["##" + letter for letter in letters] + ["lo"],
         model={"continuing_subword_prefix": "##", "merges": [["l", "##o"]]}, pre_tokenizer={"type": "Whitespace"})
    for options in range(16):
        flags = {name: bool(options >> bit & 1) for bit, name in enumerate(("lstrip", "rstrip", "single_word", "normalized"))}
        named = " ".join(name for name, value in flags.items() if value) or "plain"
        case(f"added tokens {named}", normalizer={"type": "Lowercase"}, added_tokens=[
            added(0, "<X>", **flags), added(1, "The", special=False, **flags), added(2, "   ~", special=False), added(3, "<X><X>")])
    legacy = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]}
    case("normalized special token after Prepend", normalizer=legacy, model={"byte_fallback": True, "fuse_unk": True}, added_tokens=[
        added(0, "<X>", normalized=True), added(1, "<x>", special=False)], decoder={"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})
    case("RobertaProcessing", post_processor={"type": "RobertaProcessing", "sep": ["b", vocabulary["b"]], "cls": ["a", vocabulary["a"]],
                                              "trim_offsets": True, "add_prefix_space": False})
    case("TemplateProcessing with two special tokens", post_processor={
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "a", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                                                 {"SpecialToken": {"id": "b", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"a": {"id": "a", "ids": [5, 6], "tokens": ["%", "&"]}, "b": {"id": "b", "ids": [7], "tokens": ["'"]}}})

    for name, made in cases.items():
        whole = {**model, **made["document"].get("model", {})}
        whole["vocab"] = dict(vocabulary)
        for token in made["vocab"]:
            whole["vocab"].setdefault(token, len(whole["vocab"]))
        whole["merges"] = whole["merges"] + made["merges"]
        document = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
                    "post_processor": None, "decoder": None, **made["document"], "model": whole}
        tokenizer = Tokenizer.from_str(json.dumps(document))
        rows = [golden(tokenizer, text) for text in TEXTS]
        made["ids"] = [row["ids"] for row in rows]
        made["special"] = None if all(row["ids"] == row["ids_special"] for row in rows) else [row["ids_special"] for row in rows]
        # Decoded text only where the decoder is what is tested.
        made["decoded"] = [row["decoded"] for row in rows] if document["decoder"] or document["added_tokens"] else None
        made["skipped"] = [row["decoded_special_skipped"] for row in rows] if document["added_tokens"] else None
    write("components.json", {"texts": TEXTS, "model": model, "cases": cases})


TEMPLATES = {
    "plain": "{% for message in messages %}{{ '[' + message['role'] + '] ' + message['content'] + '\\n' }}{% endfor %}"
             "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}",
    "trimmed": "{%- for message in messages -%}\n  {{- bos_token ~ message.role ~ ': ' ~ message.content | trim ~ eos_token }}\n{%- endfor -%}",
    "strict": "{% if messages[0].role != 'user' %}{{ raise_exception('The first message must be the user\\'s, not ' + messages[0].role) }}{% endif %}"
              "{% for m in messages %}{% if loop.index0 % 2 == 0 and m.role == 'assistant' %}{% continue %}{% endif %}{{ m.content }}|{% endfor %}",
    "tools": "{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}{{ messages | tojson }}{{ strftime_now('%d %b %Y') }}",
    "blocks": "{% set ns = namespace(n=0) %}\n{% for m in messages %}\n    {% if m.content is string %}\n{{ m.content }}\n    {% else %}\n"
              "    {% for part in m.content if part.type == 'text' %}{% set ns.n = ns.n + 1 %}<{{ part.text }}>{% endfor %}\n    {% endif %}\n"
              "{% endfor %}\n{{ ns.n }}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}"
                  "{% endif %};{% endfor %}{{ missing.field }}",
    "thinking": "{% for m in messages %}{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}{% endfor %}"
                "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}",
    "private": "{{ messages.__class__ }}{{ ''.join(messages) }}",
    "changing": "{{ messages.append(1) }}",
    "syntax": "{% for m in messages %}{{ m.content }}",
    "namespaces": "{% set ns = namespace(_x=1) %}",
    "dict": "{{ dict(a=1, b=2) | tojson }}{{ dict.fromkeys(['k']) }}{{ range(3) | list }}{{ 'x' | upper }}{{ {'b': 1, 'a': 'é<'} | tojson(sort_keys=true) }}",
}

CHATS = {
    "turn": [{"role": "user", "content": "Where is my kettle?"}],
    "dialogue": [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "é 👨‍👩‍👧 <b>&\"'"}, {"role": "assistant", "content": "On its way.  "}],
    "pair": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello\nthere"}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "image"}, {"type": "text", "text": "two"}]}],
    "reasoning": [{"role": "user", "content": "2+2?", "name": None}, {"role": "assistant", "thinking": "easy", "content": "4"}],
    "nothing": [],
}

TOOLS = [{"type": "function", "function": {"name": "track", "description": "Find <an> order & \"more\"", "parameters": {
    "type": "object", "properties": {"number": {"type": "integer"}, "street": {"type": "string", "description": "Straße"}}}}}]


def chats():
    now = datetime.datetime(2025, 2, 3, 4, 5, 6)

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return now

    chat_template_utils.datetime = Clock
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(os.path.join(here, "families/gpt2/tokenizer.json")), **special)
    templates = {}
    for name, template in TEMPLATES.items():
        results = []
        for chat, messages in CHATS.items():
            for prompt, final, tools, options in (
                    (False, False, False, {}), (True, False, False, {"enable_thinking": False}), (False, True, False, {}), (False, False, True, {})):
                if tools and name != "tools":
                    continue
                row = {"conversation": chat, "add_generation_prompt": prompt, "continue_final_message": final, "tools": tools, "kwargs": options}
                try:
                    row["text"] = tokenizer.apply_chat_template(
                        json.loads(json.dumps(messages)), chat_template=template, tokenize=False, add_generation_prompt=prompt,
                        continue_final_message=final, tools=TOOLS if tools else None, **options)
                except Exception as error:
                    row["error"] = type(error).__name__
                    row["message"] = str(error)
                results.append(row)
        templates[name] = {"template": template, "results": results}
    write("golden_chat.json", {"now": now.isoformat(), "special_tokens": special, "conversations": CHATS, "tools": TOOLS, "templates": templates}, 1)


families()
components()
chats()
