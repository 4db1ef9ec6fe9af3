"""The texts that tokenizers are compared on: at least 500, as raw bytes, each with a name.

Hand-written lists per kind plus generated ones from a fixed seed. Nothing here depends on a
library's version, so the corpus itself never changes by accident.
"""
import itertools
import random
import unicodedata

SCRIPTS = {
    "english": "The quick brown fox can't jump over 13 lazy dogs; it's what they've said.",
    "german": "Größere Straßen führen über Österreichs höchste Brücken – schön, nicht wahr?",
    "french": "L'été dernier, j'ai mangé des œufs à Noël ; ça m'a coûté 3,50 €.",
    "spanish": "¿Dónde está el niño? ¡Mañana será otro día!",
    "portuguese": "A ação não é só tradução: é também coração.",
    "polish": "Zażółć gęślą jaźń w Łodzi.",
    "czech": "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "turkish": "İstanbul'da ılık bir ışık; IĞDIR ve iğne.",
    "vietnamese": "Tiếng Việt có nhiều dấu: ngữ, thuật, đường, rượu.",
    "icelandic": "Sævör grét áðan því úlpan var ónýt.",
    "greek": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. ΟΔΥΣΣΕΥΣ και ὀδυσσεύς.",
    "russian": "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "ukrainian": "Щастям б'єш жук їх глицю в фон й ґедзь пріч.",
    "georgian": "ქართული ენა ძალიან ლამაზია.",
    "armenian": "Բարեւ Ձեզ, ինչպե՞ս եք։",
    "hebrew": "דג סקרן שט בים מאוכזב ולפתע מצא חברה. שָׁלוֹם",
    "arabic": "نص حكيم له سر قاطع وذو شأن عظيم. السَّلَامُ عَلَيْكُمْ ١٢٣",
    "persian": "می‌خواهم کتاب‌ها را بخوانم؛ ۴۵۶.",
    "urdu": "یہ ایک مثال ہے۔ کیا آپ سمجھتے ہیں؟",
    "hindi": "क्षत्रिय विद्यार्थी ने हिन्दी में १२३ शब्द लिखे।",
    "bengali": "বাংলা ভাষা খুব সুন্দর। ৭৮৯",
    "tamil": "தமிழ் மொழி மிகவும் பழமையானது.",
    "telugu": "తెలుగు చాలా అందమైన భాష.",
    "kannada": "ಕನ್ನಡ ನಾಡು ನುಡಿ.",
    "malayalam": "മലയാളം ഒരു ദ്രാവിഡ ഭാഷയാണ്.",
    "sinhala": "සිංහල භාෂාව ශ්‍රී ලංකාව.",
    "gujarati": "ગુજરાતી ભાષા સરસ છે.",
    "punjabi": "ਪੰਜਾਬੀ ਬੋਲੀ ਮਿੱਠੀ ਹੈ।",
    "thai": "ภาษาไทยไม่มีการเว้นวรรคระหว่างคำ ๑๒๓",
    "lao": "ພາສາລາວ ແມ່ນພາສາທາງການ.",
    "khmer": "ភាសាខ្មែរ ជាភាសាផ្លូវការ។",
    "burmese": "မြန်မာဘာသာစကားသည် လှပသည်။",
    "tibetan": "བོད་སྐད་ནི་སྐད་ཡིག་ཅིག་རེད།",
    "mongolian": "Монгол хэл ᠮᠣᠩᠭᠣᠯ ᠬᠡᠯᠡ",
    "amharic": "አማርኛ የኢትዮጵያ ቋንቋ ነው። ፲፪",
    "chinese": "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。你好，世界！",
    "traditional": "繁體中文：龜、鬱、臺灣的「國語」。",
    "japanese": "吾輩は猫である。名前はまだ無い。カタカナとひらがなー。",
    "halfwidth": "ﾊﾝｶｸｶﾅ と ＦＵＬＬＷＩＤＴＨ １２３",
    "korean": "다람쥐 헌 쳇바퀴에 타고파. 안녕하세요!",
    "cherokee": "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ",
    "inuktitut": "ᐃᓄᒃᑎᑐᑦ ᐅᖃᐅᓯᖅ",
    "runes": "ᚠᚢᚦᚨᚱᚲ ᚷᚹᚺᚾᛁᛃ",
    "gothic": "𐌰𐌱𐌲 𐌳𐌴𐍆",
    "cuneiform": "𒀀𒀁𒀂 𒁀",
    "hieroglyphs": "𓀀𓁐𓂀 𓃭",
    "cjk extension": "𠀀𠮷𡈽 𪚥",
    "math letters": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚 𝑥² ∈ ℝ",
    "deseret": "𐐔𐐯𐑅𐐨𐑉𐐯𐐻",
}

PHRASES = [
    "", " ", "a", "A", "0", "\n", "\t", "\r", ".", "'", "é", "中", "😀", "\u00a0", "\u3000",
    "Hello", " Hello", "Hello ", " Hello ", "Hello world", "Hello  world", "Hello, world!",
    "hello\nworld", "hello\r\nworld", "hello\n\nworld", "hello \n world", "HELLO WORLD",
    "HelloWorld", "helloWorldFooBar", "snake_case_name", "kebab-case-name", "UPPER_CASE_123",
    "don't", "DON'T", "Don'T", "we're", "WE'RE", "I'll", "I'LL", "they've", "I'd", "I'm", "it's",
    "'tis", "rock 'n' roll", "'s", "''s", "'ll've", "x's y't", "’s don’t", "l'été", "'ſ", "'ſt",
    "'Kelvin K", "o'clock'd've", "'RE:VE'", "can 't", "it ' s", "y'all'd've",
    "3.14159", "1,000,000", "1234567890", "12 34 56", "0x1F", "1e-10", "v1.2.3-rc4", "٣٫١٤", "½¾",
    "²³¹", "Ⅷ ⅻ", "①②③", "1st 2nd 3rd", "a1b2c3", "2024-12-31T23:59:59Z", "+49 (0)30 123456",
    "$5.00", "50%", "#1", "C++", "C#", "F#", "R&D", "AT&T", "e.g.", "i.e.", "...", "…", "!!!", "?!",
    "?!?!\n", "!!!\n\n\n", "--- \n", "***\r\n", "===\n===", "-- ", "—–-", "«guillemets»",
    "„quotes“",
    "“smart” ‘quotes’", "(a)[b]{c}<d>", "a/b\\c", "~!@#$%^&*()_+`-={}|[]\\:\";'<>?,./",
    "https://example.org/path?x=1&y=2#frag", "someone@example.org", "C:\\Windows\\System32",
    "/usr/local/bin/lade --help", "a_b__c___d", "__init__", "foo.bar.baz()", "x=1;y=2", "a==b",
    "a===b", "a!=b", "a<=b", "a->b", "a=>b", "a::b", "&&||", "//", "/* c */", "<!-- html -->",
    "<br/>", "&nbsp;", "\\n", "\\u0041", "%20", "100% sure", " .", " ,", " \n", "\n ", "\n\n",
    "\n \n",
    " \n \n ", "\t\t", "\ttab", "tab\t", "a\tb", "a \tb", "a\t b", "\r\n", "\r\r", "\n\r",
    "\r\n\r\n",
    "a\rb", "a\x0bb", "a\x0cb", "a\x85b", "a\u2028b", "a\u2029b", "\x00", "a\x00b", "\x01\x02\x1f",
    "\x7f", "\x1b[31mred\x1b[0m", "\ufeffBOM", "a\ufeffb", "a\u200bb", "a\u200cb", "a\u200db",
    "a\u00adb", "a\u2060b", "\u202eabc\u202c", "a\u00a0b", "a \u00a0b", "a\u2003b", "a\u3000b",
    "a\u3000 b", "\u3000\u3000a", "a\u180eb", "a\u1680b", "a\u205fb", "\ufffd", "a\ufffdb",
    "\uffff",
    "\U0010ffff", "\ue000", "\U000e0041", "\U000f0000",
]

EMOJI = [
    "😀", "😀😀", "😀 😀", "a😀b", "👍🏽", "👩‍👩‍👧‍👦", "👩🏿‍💻", "🏳️‍🌈", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "🇩🇪🇨🇳", "🇩", "❤️", "❤",
    "☺︎", "1️⃣",
    "#️⃣", "©️®️™️", "🫠🫡", "🧑‍🚀🚀", "👨‍❤️‍💋‍👨", "🤷🏻‍♀️", "text😀text", "😀.", "😀!\n", " 😀", "  😀",
    "😀1", "1😀",
    "💩\u200d", "\u200d💩", "\ufe0f", "⌨️ 🖱️ 🖥️", "→ ← ↑ ↓", "★☆", "♠♥♦♣", "█▓▒░", "┌─┐│└┘", "⠓⠑⠇⠇⠕",
    "🀄🃏",
]

COMBINING = [
    "e\u0301", "e\u0301te\u0301", "A\u030a", "\u212b", "n\u0303", "o\u0308\u0304", "q\u0307\u0323",
    "q\u0323\u0307", "\u1e9b\u0323", "\u0344", "\u0958", "\u0915\u093c", "\u1100\u1161\u11a8",
    "\u1112\u1161\u11ab\u1100\u1173\u11af", "\uac00\u11a8", "\u2126", "\u212a", "\ufb01", "\ufb1d",
    "\uf900", "\ufa0e", "\U0002f800", "\u0301", "\u0301\u0301\u0301", " \u0301", "\n\u0301",
    "1\u0301",
    "a\u0301\u0302\u0303\u0304\u0305",
    "Z\u0351\u036b\u0343\u036a\u0302a\u0363l\u0348g\u0321o\u0362",
    "\u0ddc", "\u0dd9\u0dcf", "\u0b4b", "\u0b47\u0b3e", "\u1b06", "\u1b05\u1b35", "\U0001d15e",
    "\U000110ba", "\U00011099\U000110ba", "\u0f73", "\u0f71\u0f72", "\u2adc", "\u0627\u0653",
    "\u05e9\u05bc\u05c1", "\u05e9\u05c1\u05bc", "\u3046\u3099", "\u304b\u3099", "\uff76\uff9e",
    "vie\u0323\u0302t", "vi\u00ea\u0323t", "vi\u1ec7t", "\u1ea1\u0302",
]

CODE = [
    "#include <stdio.h>\n\nint main(void)\n{\n    printf(\"%d\\n\", 42);\n    return 0;\n}\n",
    "for (size_t i = 0; i < n; i++) {\n\tsum += a[i] * b[i];\n}",
    "def f(x: int) -> str:\n    \"\"\"Doc.\"\"\"\n    return f\"{x!r:>10}\"\n",
    "class A(B):\n    def __init__(self, *args, **kwargs):\n        super().__init__()\n",
    "if x:\n        y\nelse:\n            z\n",
    "const f = async ({a, ...rest}) => await fetch(`/api/${a}`);\n",
    "SELECT a.id, COUNT(*) FROM t AS a WHERE a.name LIKE '%x%' GROUP BY 1;",
    "fn main() { let v: Vec<u8> = vec![1, 2, 3]; println!(\"{:?}\", v); }",
    "grep -rn 'foo' . | awk '{print $2}' | sort -u > out.txt 2>&1",
    "{\"key\": [1, 2.5, null, true], \"nested\": {\"a\": \"b\"}}",
    "<html>\n  <body class=\"x\">\n    <p>Hi &amp; bye</p>\n  </body>\n</html>",
    "\\begin{equation}\n  e^{i\\pi} + 1 = 0\n\\end{equation}",
    "# Title\n\n- item 1\n- item 2\n  - nested\n\n```c\nint x;\n```\n\n| a | b |\n|---|---|\n",
    "diff --git a/x b/x\n@@ -1,2 +1,2 @@\n-old\n+new\n",
    "main:\n\tmov\t$0x3c, %eax\n\txor\t%edi, %edi\n\tsyscall\n",
    "CC ?= gcc\n\nall: $(OBJ)\n\t$(CC) -o $@ $^\n",
    "regex: ^\\s*(\\d{1,3}\\.){3}\\d{1,3}$",
    "a = b if c else d  # comment\n\n\n\n",
    "public static void main(String[] args) { System.out.println(\"x\"); }",
    "let rec fact = function 0 -> 1 | n -> n * fact (n - 1)",
    "x := map[string]int{\"a\": 1}\nif v, ok := x[\"a\"]; ok {\n\treturn v\n}\n",
    "(defun sq (x) (* x x)) ; lisp",
    "10 PRINT \"HELLO\"\n20 GOTO 10",
    "key=value\n[section]\nname = \"x\"\n",
]

ADDED = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|box_start|>",
    "<|quad_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>",
    "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
    "<|im_start|>user\nHi<|im_end|>\n", "<|im_start|>assistant\n<think>\n", "a<think>b</think>c",
    " <think> ", "<think>\n\n</think>\n\nHello", "<|im_start|><|im_start|>", "<|im_start|",
    "<|im_end>",
    "|im_start|>", "< |im_start|>", "<|im_start |>", "<|IM_START|>", "<THINK>", "<think/>",
    "< think>",
    "<<think>>", "<|<|im_end|>|>",
    "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>",
    "e\u0301<think>e\u0301", "中文<|im_end|>中文", "😀<|im_start|>😀", "<|im_start|>\u0301",
    "x <|endoftext|> y", "  <|im_end|>  ", "\n<|im_end|>\n",
    "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
    "<tool_response>\n42\n</tool_response>", "</think></think>", "<think", "think>", "<|", "|>",
    "<||>",
    "<|reserved|>", "<|image_pad|><|image_pad|><|image_pad|>", "'<think>'s", "1<think>2",
    "\u0301<|im_end|>", "K\u0301<|im_end|>\u0327a",
]

INVALID = [
    b"\x80", b"\xbf", b"\xc0", b"\xc1\x80", b"\xc2", b"\xc3(", b"\xe2\x82", b"\xe2\x82(",
    b"\xe2(\xa1",
    b"\xe0\x80\x80", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80",
    b"\xef\xbf", b"\xf0\x9f", b"\xf0\x9f\x98", b"\xf0\x9f\x98(", b"\xf0\x28\x8c\xbc",
    b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfe",
    b"\xff", b"\xff\xfe", b"\xfe\xff", b"a\xffb", b"a\xff\xffb", b" \xff ", b"\xff\n", b"\n\xff",
    b"caf\xe9", b"na\xefve \xabx\xbb", b"\x93smart\x94", b"abc\xe4\xbd", b"\xe4\xbd\xa0\xe5\xa5",
    b"\xe4\xbd\xa0\xe5\xa5\xbd\xe4", b"\xf0\x9f\x98\x80\xf0\x9f\x98", b"\x80\x80\x80\x80\x80",
    b"\xc3\xa9\xc3", b"e\xcc\x81\xcc", b"e\xcc", b"<|im_end|>\xff", b"\xff<|im_end|>",
    b"<|im_\xffend|>", b"\xf1\x80\x80\x41", b"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41",
    b"\x00\xff\x00", b"it\xff's", b"1\xff2", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff hello",
]


def white_space():
    """Runs of white space between, before and after words: the expression's hardest part."""
    kinds = [" ", "  ", "   ", "\t", "\n", "\r\n", "\u3000", "\u00a0"]
    for a, b in itertools.product(kinds, kinds):
        yield f"x{a}{b}y"
    for n in (1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 64, 127, 128, 200):
        yield " " * n
        yield "a" + " " * n + "b"
        yield "\n" * n + "z"


def words(rng, pool, count):
    return " ".join(rng.choice(pool) for _ in range(count))


def generated():
    """Random texts: code points of many blocks, mixed scripts, long lines, raw bytes."""
    rng = random.Random(20251101)
    blocks = [(0x20, 0x7e), (0xa1, 0x17f), (0x300, 0x36f), (0x370, 0x4ff), (0x5d0, 0x6ff),
              (0x900, 0xdff), (0xe00, 0xeff), (0x1100, 0x11ff), (0x1e00, 0x1fff), (0x2000, 0x206f),
              (0x20d0, 0x2bff), (0x3040, 0x30ff), (0x4e00, 0x9fff), (0xac00, 0xd7a3),
              (0xf900, 0xfaff), (0xff00, 0xffef), (0x10000, 0x105ff), (0x11000, 0x115ff),
              (0x1d100, 0x1d7ff), (0x1f300, 0x1faff), (0x20000, 0x2a6df)]
    for low, high in blocks:
        for _ in range(2):
            yield "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(3, 24)))
    for _ in range(30):
        text = ""
        for _ in range(rng.randint(2, 12)):
            low, high = rng.choice(blocks)
            text += "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 4)))
            text += rng.choice(["", "", " ", "\n", ", ", "1"])
        yield text
    pool = " ".join(SCRIPTS.values()).split()
    for count in (20, 60, 150, 400):
        yield words(rng, pool, count)
    yield unicodedata.normalize("NFD", words(rng, pool, 200))
    yield "a" * 1000
    yield "ab" * 700
    yield "é" * 500
    yield "中" * 300
    yield "9" * 300
    yield "!" * 300
    yield "😀" * 200
    yield "lorem ipsum dolor sit amet " * 100
    yield "\u0301" * 50
    yield "".join(chr(c) for c in range(128))


def random_bytes():
    rng = random.Random(7)
    for _ in range(20):
        yield bytes(rng.randrange(256) for _ in range(rng.randint(1, 40)))
    for _ in range(20):
        text = bytearray("Grüße, 世界! 😀 <|im_end|> e\u0301".encode())
        for _ in range(rng.randint(1, 3)):
            text[rng.randrange(len(text))] = rng.randrange(256)
        yield bytes(text)
    yield bytes(range(256))


def entries():
    """The whole corpus: a list of (name, bytes); names are unique."""
    groups = [("script " + name, [text]) for name, text in SCRIPTS.items()]
    groups += [("nfd " + name, [unicodedata.normalize("NFD", SCRIPTS[name])])
               for name in ("german", "french", "vietnamese", "greek", "korean", "hindi", "polish")]
    groups += [("phrase", PHRASES), ("emoji", EMOJI), ("combining", COMBINING), ("code", CODE),
               ("crlf", [text.replace("\n", "\r\n") for text in CODE[:6]]),
               ("added", ADDED), ("space", list(white_space())), ("generated", list(generated())),
               ("invalid", INVALID), ("bytes", list(random_bytes()))]
    out = []
    for group, texts in groups:
        for i, text in enumerate(texts):
            name = group if len(texts) == 1 else f"{group} {i + 1}"
            out.append((name, text if isinstance(text, bytes) else text.encode("utf-8")))
    return out


def training_texts():
    """What the small tokenizer is trained on: the readable part of the corpus."""
    yield from SCRIPTS.values()
    yield from CODE
    yield from EMOJI
    for text in PHRASES:
        yield text
    rng = random.Random(3)
    for _ in range(12):
        yield words(rng, SCRIPTS["english"].split() + CODE[0].split() + TOPICS, 300)


TOPICS = (
    "you are a helpful assistant the user asked about and we should answer in a short way "
    "what is the capital of France thinking about this question I can explain how to write "
    "a program in C that reads a file line by line and prints the number of words because "
    "there are many ways to do it let me know if you need more details hello thanks please "
    "model weights memory machine tokens layers experts state system message conversation"
).split()
