/// The Python program behind `ChatRenderer`: reads one JSON request a line, writes one JSON reply a line.
///
/// The first line sets limits and the clock; `{"template": n, "source": text}` defines a template (no reply), other
/// lines render. Templates come from model repositories and are not trusted: Jinja's immutable sandbox, plain JSON
/// values only, and a process that can open no file, write no file, start no process, make no system call but those it
/// computes and answers with, and outlive neither its limits nor its parent.
enum ChatHelperScript {
  static let source = #"""
    import sys
    import json


    def say(reply):
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


    try:
        import jinja2
        import jinja2.constants
        import jinja2.debug
        import jinja2.ext
        import jinja2.sandbox
    except ImportError as error:
        say({"fatal": f"jinja2 cannot be imported ({error})"})
        sys.exit(1)
    import ctypes
    import datetime
    import os
    import pprint
    import platform
    import resource
    import signal
    import struct
    import unicodedata

    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])  # what the parent had open
    sys.stdin.reconfigure(encoding="utf-8", errors="strict", newline="\n")
    settings = json.loads(sys.stdin.readline())
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != settings["parent"]:
        sys.exit(0)


    class OutOfTime(BaseException):
        pass


    class TooLong(Exception):
        pass


    class GenerationTag(jinja2.ext.Extension):
        # {% generation %} marks what the assistant said, for loss masks; the text itself is not changed.
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_inside"), [], [], body).set_lineno(line)

        def _inside(self, caller):
            return caller()


    class DictMaker:
        # What templates get as `dict`: makes dictionaries, and is no type.
        def __call__(self, *args, **kwargs):
            return dict(*args, **kwargs)

        def fromkeys(self, *args):
            return dict.fromkeys(*args)


    def allowed_name(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}: names may not start with an underscore")


    class PlainNamespace(jinja2.utils.Namespace):
        def __init__(*args, **kwargs):
            self, values = args[0], dict(*args[1:], **kwargs)
            for name in values:
                allowed_name(name)
            jinja2.utils.Namespace.__init__(self, values)

        def __setitem__(self, name, value):
            allowed_name(name)
            jinja2.utils.Namespace.__setitem__(self, name, value)


    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)


    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


    def strftime_now(form):
        frozen = settings.get("now")
        now = datetime.datetime.fromisoformat(frozen) if frozen else datetime.datetime.now()
        return now.strftime(form)


    class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
        # Jinja2 before 3.1.6 lets templates shorten lists.
        def is_safe_attribute(self, owner, name, value):
            shortens = isinstance(owner, list) and name in ("clear", "pop")
            return not shortens and super().is_safe_attribute(owner, name, value)


    def compiled(source):
        environment = Sandbox(
            trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols])
        environment.filters["tojson"] = tojson
        environment.globals.update(
            raise_exception=raise_exception, strftime_now=strftime_now, dict=DictMaker(), namespace=PlainNamespace)
        del environment.globals["lipsum"]  # random text of any length
        return environment.from_string(source)


    REASONING = ("reasoning_content", "thinking", "reasoning")
    MARK = "CONTINUE_FINAL_MESSAGE_TAG "


    def prepared(messages):
        # Null fields are as good as absent, and reasoning is passed under the names that templates read.
        if not messages:
            raise ValueError("there is no message to render")
        chat = []
        for message in messages:
            if not isinstance(message, dict):
                raise TypeError(f"a message must be an object with role and content, not {message!r}")
            message = {key: value for key, value in message.items() if value is not None}
            reasoning = next((message[key] for key in REASONING if key in message), None)
            if reasoning is not None:
                message = {"thinking": reasoning, **message, "reasoning_content": reasoning}
            chat.append(message)
        return chat


    def mark_end(message, source):
        # Puts MARK behind the last text of the final message; the rendered chat is cut there.
        text = message.get("content")
        if text is None:
            raise ValueError("continue_final_message needs a final message with content")
        if "content" not in source:
            raise ValueError("continue_final_message needs a template that reads content")
        if not isinstance(text, list):
            message["content"] = text + MARK
            return text
        for block in reversed(text):
            if "text" in block:
                text = block["text"]
                block["text"] = text + MARK
                return text
        raise ValueError("continue_final_message needs text in the final message")


    def cut(rendered, final):
        mark = MARK.strip()
        if final.strip() not in rendered or mark not in rendered:
            raise ValueError("continue_final_message: the template does not render the final message as it is")
        end = rendered.rindex(mark)
        # A template that trims the message takes the space behind the mark too.
        return rendered[:end] if rendered.startswith(MARK, end) else rendered[:end].rstrip()


    templates = {}
    sources = {}


    def rendered(request):
        number = request["template"]
        chat = prepared(request["messages"])
        if number not in templates:
            templates[number] = compiled(sources[number])
        continued = request["continue"]
        if continued and request["generation"]:
            raise ValueError("continue_final_message and add_generation_prompt exclude each other")
        final = mark_end(chat[-1], sources[number]) if continued else None
        text = templates[number].render(
            messages=chat, tools=request["tools"], documents=None, add_generation_prompt=request["generation"],
            **request["variables"])
        text = cut(text, final) if continued else text
        if len(text.encode("utf-8")) > settings["output"]:
            raise TooLong()
        return text


    def alarm(signum, frame):
        raise OutOfTime()


    # System calls of a process that only computes, reads requests, writes replies and manages its own memory.
    CALLS = {
        "x86_64": (0xC000003E, (0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 25, 28, 36, 38, 39, 60, 96, 131, 201, 202, 219,
                                228, 231, 262, 318)),
        "aarch64": (0xC00000B7, (57, 62, 63, 64, 73, 79, 80, 93, 94, 98, 102, 103, 113, 128, 132, 134, 135, 139, 169, 172,
                                 214, 215, 216, 222, 226, 233, 278)),
    }


    def allow_only_computing():
        # A seccomp filter: any other call fails with EPERM. Returns whether the kernel took it.
        if platform.machine() not in CALLS:
            return False
        architecture, calls = CALLS[platform.machine()]
        filter = [(0x20, 0, 0, 4), (0x15, 1, 0, architecture), (0x06, 0, 0, 0x00050001), (0x20, 0, 0, 0)]
        for index, call in enumerate(calls):
            filter.append((0x15, len(calls) - index, 0, call))
        filter += [(0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
        code = b"".join(struct.pack("HBBI", *step) for step in filter)
        buffer = ctypes.create_string_buffer(code, len(code))
        program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(filter), ctypes.addressof(buffer)), 16)
        prctl = ctypes.CDLL(None).prctl
        prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
        return prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.addressof(program), 0, 0) == 0


    def limit_time(seconds):
        # The first raises OutOfTime between two of Python's steps; the second, of processor time, ends the process.
        signal.setitimer(signal.ITIMER_REAL, seconds)
        signal.setitimer(signal.ITIMER_PROF, seconds + 1 if seconds else 0)


    signal.signal(signal.SIGALRM, alarm)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    compiled("{% for m in [1] %}{{ m|tojson }}{{ strftime_now('%d %b %Y') }}{{ [m]|pprint }}{% endfor %}").render()
    try:
        compiled("{{ raise_exception('ready') }}").render()
    except jinja2.exceptions.TemplateError:
        pass
    resource.setrlimit(resource.RLIMIT_AS, (settings["memory"], settings["memory"]))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE):
        resource.setrlimit(limit, (0, 0))
    say({"ready": jinja2.__version__, "filtered": allow_only_computing()})

    TOO_LONG = {"error": "TooLong", "message": f"made more than {settings['output'] >> 20} MB of text"}
    for line in sys.stdin:
        reply = {}
        try:
            request = json.loads(line)
            if "source" in request:
                sources[request["template"]] = request["source"]
                continue
            limit_time(settings["seconds"])
            try:
                reply = {"text": rendered(request)}
            finally:
                limit_time(0)
        except OutOfTime:
            reply = {"error": "TimeoutError", "message": f"took more than {settings['seconds']} seconds"}
        except MemoryError:
            reply = {"error": "MemoryError", "message": f"took more than {settings['memory'] >> 20} MB"}
        except TooLong:
            reply = TOO_LONG
        except RecursionError:
            reply = {"error": "RecursionError", "message": "the conversation or the template is nested too deep"}
        except Exception as error:
            reply = {"error": type(error).__name__, "message": str(error)[:4000]}
        try:
            say(reply)
        except (MemoryError, UnicodeError):
            say(TOO_LONG)
    """#
}
