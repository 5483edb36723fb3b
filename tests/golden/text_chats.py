"""The chat cases of tests/golden/text.py: whole templates with conversations, and a table of small
expressions, rendered by transformers' apply_chat_template."""
import datetime as real_datetime
import json
from pathlib import Path

import transformers.utils.chat_template_utils as reference
from transformers import AutoTokenizer

NOW = 1733054645  # 2024-12-01 12:04:05 UTC


class FixedDatetime(real_datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, tz)


reference.datetime = FixedDatetime

SYSTEM = {"role": "system", "content": "  Be brief.\nAlways. "}
USER = {"role": "user", "content": "What's 2+2? \"quoted\" <b>&amp;</b> é 日本 😀"}
ANSWER = {"role": "assistant", "content": "\n4\n"}
FOLLOW = {"role": "user", "content": "And\tnow?\n"}
THINKING = {"role": "assistant", "content": "<think>\nhm, 3?\n</think>\n\nThree."}
REASONED = {"role": "assistant", "content": "Four.", "reasoning_content": "two and two\n"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{
    "id": "abcdef123", "type": "function",
    "function": {"name": "get_weather", "arguments": {
        "city": "Zürich", "days": 3, "exact": True, "limit": 1.0, "tiny": 1e-07, "big": 1e22, "none": None,
        "nested": {"a": [1, 2.5, "x'y\"z"], "b": {}, "c": []}}}}]}
CALL_TEXT = {"role": "assistant", "content": "calling", "tool_calls": [
    {"id": "abcdef124", "type": "function", "function": {"name": "a", "arguments": "{\"x\": 1}"}},
    {"id": "abcdef125", "type": "function", "function": {"name": "b", "arguments": {"y": "é\u2028"}}}]}
RESULT = {"role": "tool", "content": "{\"t\": 21.5}", "tool_call_id": "abcdef123", "name": "get_weather"}
RESULT_DICT = {"role": "tool", "content": {"content": 21.5, "ok": True}, "tool_call_id": "abcdef123"}
BLOCKS = {"role": "user", "content": [{"type": "image", "image": "x"}, {"type": "text", "text": " look "},
                                      {"type": "image_url", "image_url": {"url": "y"}},
                                      {"type": "text", "text": "at\nthis"}]}
TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "The weather <of> a place & more.\nSecond line 'quoted'.",
        "parameters": {"type": "object", "required": ["city"], "properties": {
            "city": {"type": "string", "description": "The city, é.g. Zürich", "enum": ["Zürich", "Genève", 3]},
            "days": {"type": ["integer", "null"], "default": 1},
            "flags": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "number"}}},
        }},
        "return": {"type": "string"}}},
    {"type": "function", "function": {"name": "noop", "description": "", "parameters": {
        "type": "object", "properties": {}}}},
]
DOCUMENTS = [{"title": "One", "text": "First text."}, {"title": "Two", "text": "Zweiter\nText", "n": 2}]

PLAIN = [[USER], [SYSTEM, USER], [USER, ANSWER, FOLLOW], [SYSTEM, USER, ANSWER, FOLLOW]]
TOOL_CHAT = [SYSTEM, USER, CALL, RESULT, {"role": "assistant", "content": "21.5 degrees"}, FOLLOW]


def chats(name):
    """(messages, options) for one template."""
    for messages in PLAIN:
        yield messages, {}
        yield messages, {"add_generation_prompt": True}
    yield [USER, ANSWER], {"continue_final_message": "content"}
    yield [USER, {"role": "assistant", "content": "Sure, here "}], {"continue_final_message": "content"}
    if name in ("llama31_tools", "qwen25_tools", "qwen3_reasoning", "mistral_tools", "command_rag"):
        for messages in ([SYSTEM, USER], TOOL_CHAT, [USER, CALL, RESULT], [USER, CALL_TEXT, RESULT, RESULT, FOLLOW],
                         [USER, CALL, RESULT_DICT, ANSWER]):
            yield messages, {"tools": TOOLS, "add_generation_prompt": True}
            yield messages, {}
    if name == "llama31_tools":
        yield [SYSTEM, USER], {"tools": TOOLS, "kwargs": {"tools_in_user_message": False}}
        yield [USER], {"kwargs": {"date_string": "today", "builtin_tools": ["code_interpreter", "search"]}}
        yield [SYSTEM], {"tools": TOOLS}
    if name == "qwen3_reasoning":
        yield [USER, THINKING, FOLLOW, REASONED], {"add_generation_prompt": True}
        yield [USER, REASONED], {"continue_final_message": "content"}
        yield [USER, {"role": "assistant", "content": "", "reasoning_content": "so far"}], {
            "continue_final_message": "reasoning_content"}
        yield [USER], {"add_generation_prompt": True, "kwargs": {"enable_thinking": False}}
    if name in ("gemma_blocks", "vision_blocks", "granite_sections"):
        yield [SYSTEM, BLOCKS, ANSWER], {"add_generation_prompt": True, "kwargs": {"add_vision_id": True}}
        yield [USER, {"role": "assistant", "content": [{"type": "text", "text": "it is "}]}], {
            "continue_final_message": "content"}
    if name in ("mistral_tools", "gemma_blocks", "llama2", "mistral", "gemma"):
        yield [USER, USER], {}
        yield [ANSWER], {}
        yield [USER, {"role": "odd", "content": "x"}], {}
    if name == "command_rag":
        yield [USER], {"documents": DOCUMENTS, "tools": TOOLS, "add_generation_prompt": True}
    if name == "phi_loops":
        yield [{**SYSTEM, "tools": "[]"}, {"role": "skip", "content": "x"}, USER, {"role": "stop", "content": "x"},
               ANSWER], {}
    if name in ("deepseek_v3", "granite_sections"):
        yield TOOL_CHAT, {"add_generation_prompt": True}
        yield [USER, FOLLOW, THINKING, FOLLOW, CALL, RESULT, RESULT], {"add_generation_prompt": True}


# Each is a template by itself; `v` is VALUES. What is known to differ stands in docs/text.md: literal
# tuples print as lists, `%` does not format strings, no bytes, lipsum, urlencode.
VALUES = {
    "s": "Hello wOrld, it's ünïcode", "blank": "  \t pad \n", "empty": "", "n": 42, "neg": -7, "f": 2.5,
    "floats": [0.1, 1.0, 1e16, 123456789012345680.0, 1e-5, 0.0001, -0.0, 3.0e100, 1.5e-10], "t": True, "no": False, "none": None,
    "list": [3, 1, 2], "words": ["b", "A", "c"], "mixed": [1, "a", None, True, 2.5, [1], {"k": "v'"}],
    "dict": {"z": 1, "a": [1, 2], "items": "mine", "nested": {"x": None}}, "big": 12345678901234567890,
    "quotes": "it's \"both\"", "single": "it's", "escapes": "a\tb\nc\\d\x07\u200b\u00a0é😀\x7f",
    "rows": [{"name": "x", "n": 2}, {"name": "y", "n": 1}, {"name": "x", "n": 3}], "html": "<a href=\"x\">&'</a>",
    "lines": "one\ntwo\r\nthree\n\nfive", "path": "a/b/c", "csv": "a,b,,c,", "title": "the o'neil mc-donald's (foo) x2y",
}
EXPRESSIONS = """
v.t|v.no|v.none|v.f|v.n|v.neg|v.big|v.floats|v.mixed|v.dict|v.quotes|v.single|v.escapes|[v.escapes]|v.undefined
v.floats[0]|v.floats[1]|v.floats[2]|v.floats[3]|v.floats[4]|v.floats[5]|v.floats[6]|v.floats[7]|v.floats[8]
v.mixed ~ ''|'x' ~ v.t ~ v.none ~ v.f|v.n ~ v.neg
v.mixed|tojson|v.dict|tojson(indent=2)|v.dict|tojson(sort_keys=true)|v.floats|tojson|v.escapes|tojson
v.escapes|tojson(ensure_ascii=true)|v.dict|tojson(separators=(',', ':'))|v.dict|tojson(indent=2, separators=(', ', ' = '))
v.html|tojson|v.big|tojson|[]|tojson(indent=2)|{}|tojson(indent=2)|{'a': {}, 'b': []}|tojson(indent=4)|v.undefined|tojson
v.s|upper|v.s|lower|v.s|title|v.s|capitalize|v.title|title|v.title.title()|v.s.upper()|v.s.lower()|v.s.capitalize()
v.s.swapcase()|v.blank|trim|v.blank.strip()|v.blank.lstrip()|v.blank.rstrip()|'xxhixx'.strip('x')|'xyhi'.lstrip('yx')
v.blank|trim|length|'--a--'|trim('-')|v.s|length|v.list|length|v.dict|length|v.undefined|length|v.empty|length|v.s|count
v.s.split()|v.s.split(',')|v.csv.split(',')|v.csv.split(',', 2)|v.csv.rsplit(',', 1)|v.blank.split()|' a  b c '.split(None, 1)
' a  b c '.rsplit(None, 1)|v.path.split('/')[-1]|v.path.rsplit('/', 1)[0]|v.path.partition('/')|v.path.rpartition('/')|v.lines.splitlines()
v.lines.splitlines(true)|v.s.startswith('Hello')|v.s.startswith(('x', 'Hell'))|v.s.endswith('code')|v.s.find('w')|v.s.find('zz')
v.s.rfind('l')|v.s.index('ü')|v.s.count('l')|v.s.replace('l', 'L')|v.s.replace('l', 'L', 1)|v.s|replace('l', 'L')|v.s|replace('l', 'L', 2)
v.s.isdigit()|'12'.isdigit()|''.isdigit()|'ab'.isalpha()|'a1'.isalnum()|' '.isspace()|''.isspace()|'AB'.isupper()|'ab1'.islower()|'1'.islower()
'x'.zfill(4)|'-5'.zfill(4)|'x'.ljust(3) ~ '|'|'x'.rjust(3, '.')|'x'.center(4, '*')|'ab'.center(5)|','.join(v.words)|'abc'.removeprefix('ab')|'abc'.removesuffix('bc')
'{} and {}'.format(1, 'x')|'{0}-{name}'.format('a', name='b')|'%s|%5.2f'|format('a', 2.5)
v.list|sort|v.words|sort|v.words|sort(case_sensitive=true)|v.list|sort(reverse=true)|v.rows|sort(attribute='n')|v.list|reverse|list|v.s|reverse
v.list|first|v.list|last|v.empty|first|v.list|max|v.list|min|v.list|sum|v.rows|sum(attribute='n')|v.rows|map(attribute='name')|list|v.rows|map(attribute='name')|unique|list
v.words|map('upper')|join('-')|v.mixed|join(',')|v.rows|join('+', attribute='name')|v.list|join|v.s|join('.')|v.rows|selectattr('name', 'equalto', 'x')|list|length
v.rows|selectattr('n', 'gt', 1)|map(attribute='n')|list|v.rows|rejectattr('name', 'eq', 'x')|list|v.list|select('odd')|list|v.list|reject('odd')|list|v.mixed|select('string')|list
v.dict.keys()|list|v.dict.values()|list|v.dict.items()|list|v.dict|items|list|v.dict['items']|v.dict.get('a')|v.dict.get('q')|v.dict.get('q', 5)|v.dict|list
v.dict|length|'a' in v.dict|'q' in v.dict|'q' not in v.dict|1 in v.list|'ell' in v.s|v.none is none|v.undefined is defined|v.undefined is undefined|v.s is string|v.n is string
v.n is number|v.t is number|v.f is float|v.n is integer|v.t is integer|v.t is boolean|v.list is sequence|v.s is sequence|v.dict is sequence|v.n is sequence|v.s is iterable|v.n is iterable
v.dict is mapping|v.list is mapping|v.n is even|v.n is odd|v.n is divisibleby 7|v.t is true|v.no is false|v.n is eq 42|v.none is sameas none|v.s is lower|'AB' is upper|v.n is in [1, 42]
v.s[0]|v.s[-1]|v.s[1:4]|v.s[:-1]|v.s[::-1]|v.s[::2]|v.list[1:]|v.list[-2:]|v.list[::-1]|v.list[5:]|v.list[:1][0]|v.list[::-1][0]|(v.list[1:])|length|v.list[1:] + [9]|v.list + v.words
v.n + 1|v.n - 50|v.n * 2|v.n / 5|v.n // 5|v.neg // 2|v.neg % 3|v.n % 5|v.n ** 2|v.f * 2|7 / 7|1 / 3|'ab' * 3|[0] * 3|v.n > 3|1 < v.n <= 42|v.n == 42.0|'a' < 'b'|not v.t|v.no or 'x'|v.empty and 'y'
v.f|int|'12'|int|'x'|int|'x'|int(7)|'0x1f'|int(0, 16)|'3.7'|int|'3.5'|float|'x'|float|v.n|float|2.5|round|3.5|round|2.567|round(2)|2.567|round(1, 'floor')|2.1|round(0, 'ceil')|v.n|round|v.neg|abs
v.lines|indent|v.lines|indent(2, true)|v.lines|indent(width=3, first=true, blank=true)|v.lines|indent('> ')|v.s|wordcount|v.html|escape|v.html|e|v.html|safe|v.html|striptags
v.undefined|default('d')|v.empty|default('d')|v.empty|default('d', true)|v.none|d('x')|v.none|default('x', boolean=true)|v.undefined.x is defined|v.dict.q.r
v.n|string|v.none|string|v.mixed|string|v.t|string|v.list|string ~ 'x'|v.s|list|v.list|batch(2)|list|v.list|slice(2)|list|v.s|truncate(10)|v.s|center(40)
range(3)|list|range(1, 6, 2)|list|range(5, 0, -2)|list|dict(a=1, b='x')|namespace(a=1).a|[1, 'a']|{'a': 1}|{'a': [true, none]}|true|none|1.0|'a' 'b'|1_000
v.n if v.t else 0|'yes' if v.no|v.s|length > 3|v.list|length == 3|(v.list|length) * 2|v.s.split(',')|map('trim')|list|v.words|map('lower')|sort|join|v.dict|dictsort|map('first')|list
"""
STATEMENTS = [
    "{% for x in v.list %}{{ loop.index }}{{ loop.first }}{{ loop.last }}{{ loop.revindex }}{{ loop.length }}{% endfor %}",
    "{% for x in v.list %}{{ loop.cycle('a', 'b') }}{% if loop.changed(x > 1) %}!{% endif %}{% endfor %}",
    "{% for k, val in v.dict.items() %}{{ k }}={{ val }};{% endfor %}", "{% for k in v.dict %}{{ k }},{% endfor %}",
    "{% for x in v.undefined %}x{% else %}none{% endfor %}", "{% for c in 'abc' %}{{ c }}-{% endfor %}",
    "{% for x in v.list if x > 1 %}{{ x }}{{ loop.index }}{% endfor %}",
    "{% for x in v.list recursive %}{{ x }}{% endfor %}",
    "{% for a, b in [(1, 2), (3, 4)] %}{{ a }}{{ b }}{% endfor %}",
    "{% for x in v.list %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }}{% endfor %}",
    "{% set x = 1 %}{% for i in v.list %}{% set x = x + 1 %}{% endfor %}{{ x }}",
    "{% set ns = namespace(n=0, found=false) %}{% for i in v.list %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}{{ ns.found }}",
    "{% if true %}{% set y = 5 %}{% endif %}{{ y }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set z %}block {{ v.n }}{% endset %}[{{ z }}]",
    "{% with q = 3 %}{{ q }}{% endwith %}{{ q }}", "{% filter upper %}abc{{ v.s }}{% endfilter %}",
    "{% macro m(a, b=2, c='x') %}{{ a }}/{{ b }}/{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(1, c='z') }} {{ m() }}",
    "{% macro outer() %}<{{ caller() }}>{% endmacro %}{% call outer() %}inside{% endcall %}",
    "{% macro fact(n) %}{{ n }}{% if n > 1 %},{{ fact(n - 1) }}{% endif %}{% endmacro %}{{ fact(4) }}",
    "{% macro up(s) %}{{ s|upper }}{% endmacro %}{{ up('x') ~ up('y') }}{{ up('z') | length }}",
    "{% raw %}{{ not }} {% a %}{% endraw %}", "a{# comment #}b{#- trimmed -#} c", "  {%- if true %} x {% endif -%}  y",
    "line\n    {% if true %}\n    inner\n    {% endif %}\nafter\n", "a\n{{ v.n }}\nb\n\n", "a\n\n\n", "{{ 'a\\nb\\t\\'c\\' \\\\ \\x41 \\u00e9' }}",
    "{%+ if true %}  x{% endif %}\n  {%+ if true %}y{% endif +%}\nz", "{{- ' a' }}  \n {{ 'b' -}}  \n c", "\n\nlead", "a\r\nb{% if true %}\r\nc{% endif %}\r\n",
    "{% generation %}x{% set inside = 1 %}{% endgeneration %}{{ inside }}", "{%- generation -%} x {%- endgeneration -%} y",
    "{% for x in [1,2,3,4] %}{% if x == 2 %}{% continue %}{% elif x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%Y-%m-%dT%H:%M:%S.%f%z') }}|{{ strftime_now('%%') }}|{{ strftime_now('') }}",
    "{{ raise_exception('no: ' ~ v.n) }}", "{{ v.undefined.x.y }}", "{{ v.s.nope() }}", "{{ nope() }}", "{{ 1 + 'a' }}", "{{ v.none.x }}",
    "{{ v.none + 'a' }}", "{{ v.list.append(4) }}", "{{ v.dict.update({'a': 1}) }}", "{% if v.list is unknown_test %}{% endif %}", "{{ v.s|unknown_filter }}",
    "{% for %}", "{{ 1 +", "{% if x %}", "{{ messages[0].content[:5] }}{{ messages|length }}{{ messages[-1]['role'] }}", "{{ tools is none }}{{ documents is none }}{{ tools is defined }}",
    "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ bos_token is defined }}", "{{ add_generation_prompt }}", "{{ messages }}", "{{ messages[0] }}", "{{ v.rows[0].name ~ v.rows[1]['n'] }}",
    "{{ v.list | map('string') | map('length') | sum }}", "{{ v.words|map('replace', 'b', 'q')|join }}", "{{ [1,2]|tojson ~ {'a':1}|tojson }}",
    "{% set d = {'b': 1, 'a': 2} %}{{ d.b }}{{ d['a'] }}{{ d }}{{ d|tojson }}", "{% set l = [] %}{% set l = l + ['x'] %}{{ l }}{{ l|length }}",
    "{{ v.rows|groupby('name')|map('first')|join(',') }}", "{% for n, g in v.rows|groupby('name') %}{{ n }}:{{ g|map(attribute='n')|join('/') }};{% endfor %}",
    "{{ (v.s ~ '!')|upper|replace('L', '1') }}", "{{ v.s if v.s is string and v.s|length > 3 else 'short' }}", "{{ v['dict']['a'][1] }}{{ v.dict.a.1 }}",
    "{{ 'a' if v.undefined else 'b' }}{{ 'a' if v.dict.q else 'b' }}", "{{ v.mixed == [1, 'a', none, true, 2.5, [1], {'k': \"v'\"}] }}", "{{ messages[0] == messages[-1] }}",
    "{{ v.html | forceescape }}", "{% set j = joiner(', ') %}{{ j() }}a{{ j() }}b{% set c = cycler(1, 2) %}{{ c.next() }}{{ c.next() }}{{ c.next() }}", "{{ v.lines | replace('\\r\\n', '|') | replace('\\n', '/') }}", "{{ '<' + 'x' | upper + '>' }}",
    "{{ v.s.__class__ }}", "{{ (v.n, v.f)|tojson }}", "{{ v.list|tojson|length }}", "{{ v.dict.nested.x is none }}{{ v.dict.nested.y is defined }}",
    "{{ {'a': 1, **{'b': 2}} }}", "{{ [v.list, v.words]|map('join', ',')|list }}", "{{ '%.2f'|format(3.14159) }}",
]


def expressions():
    for line in EXPRESSIONS.strip().splitlines():
        depth, quote, start = 0, None, 0
        parts = []
        # A bar at the top level that begins with "v." or a literal starts a new expression; a filter
        # name never does.
        for at, c in enumerate(line):
            if quote:
                quote = None if c == quote else quote
            elif c in "'\"":
                quote = c
            elif c in "([{":
                depth += 1
            elif c in ")]}":
                depth -= 1
            elif c == "|" and depth == 0 and not line[at + 1:].split("|")[0].split("(")[0].split(" ")[0].isidentifier():
                parts.append(line[start:at])
                start = at + 1
            elif c == "|" and depth == 0 and line[at + 1:].split("|")[0].split(" ")[0].split("(")[0] in (
                    "range", "dict", "namespace", "lipsum", "cycler", "true", "none", "not", "joiner"):
                parts.append(line[start:at])
                start = at + 1
        parts.append(line[start:])
        yield from parts


def render(tok, source, messages, options):
    case = {"messages": messages, "options": options}
    try:
        case["text"] = tok.apply_chat_template(
            messages, chat_template=source, tokenize=False, tools=options.get("tools"),
            documents=options.get("documents"), add_generation_prompt=options.get("add_generation_prompt", False),
            continue_final_message=options.get("continue_final_message", False), **options.get("kwargs", {}))
    except Exception as error:  # whatever the reference refuses
        case["error"] = str(error) if "TemplateError" == type(error).__name__ else type(error).__name__
    return case


def cases(templates: Path, builtin: Path):
    tok = AutoTokenizer.from_pretrained(templates.parent / "tokenizers" / "llama3")
    out = {"now": NOW, "values": VALUES, "files": {}, "expressions": []}
    for folder in (templates, builtin):
        for path in sorted(folder.glob("*.jinja")):
            source = path.read_text()
            rows = [render(tok, source, m, o) for m, o in chats(path.stem)]
            out["files"][path.relative_to(templates.parents[3]).as_posix()] = rows
    small = [{"role": "user", "content": "hi there"}]
    for source in ["{{ " + e + " }}" for e in expressions()] + STATEMENTS:
        row = render(tok, source, small, {"kwargs": {"v": VALUES}})
        out["expressions"].append({"source": source, **{k: row[k] for k in ("text", "error") if k in row}})
    json.dumps(out)
    return out
