# SPDX-License-Identifier: Apache-2.0
"""Where the text of the Corefile comes from: the file of ``-conf``, which node-cache makes of a template.

source = CorefileSource(options, os.environ, count_error)
text = source.first()        # UsageError: nothing can be served
changed = source.poll()      # every POLL_S: the new text, or None
text = source.read()         # the file as it is: what the plugin reload compares
"""

import errno
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastdns import log
from fastdns.control.config import kubedns
from fastdns.control.config.kubedns import ConfigMapError, KubeDNS
from fastdns.control.config.template import (
    DEFAULT_UPSTREAM,
    Place,
    TemplateError,
    fill,
    find_service,
    keeps_transport,
    service_variable,
)
from fastdns.control.model import NodeOptions, Options
from fastdns.errors import UsageError

POLL_S: Final = 10.0  #: as often as node-cache looks at its ConfigMaps
KUBEDNS_DIR: Final = Path("/etc/kube-dns")

# What is said where no file can be moved over this one, though it may be written itself: it is mounted, or
# its folder is somebody else's.
_ONLY_IN_PLACE: Final = {errno.EACCES, errno.EBUSY, errno.EPERM, errno.EROFS}


class CorefileSource:
    """The text of the Corefile. An error that lasts is logged and counted once, not at each poll.

    ``count_error`` is called for each error that node-cache counts as `configmap`.
    """

    def __init__(
        self,
        options: Options,
        environ: Mapping[str, str],
        count_error: Callable[[], None],
        kubedns_dir: Path = KUBEDNS_DIR,
    ) -> None:
        self._conf = Path(options.conf)
        self._text = options.conf_text
        self._trouble = _Trouble(count_error)
        self._template: _Template | None = None
        self._written: _Sources | None = None
        node = options.node
        if node is not None and node.base_corefile and self._text is None:
            self._template = _Template(node, options.dns_port, environ, self._trouble, kubedns_dir)

    def first(self) -> str:
        """The text to begin with. Raises UsageError.

        Where the file can't be made, one that is there is used as it is: some have it in a ConfigMap, without
        a template.
        """
        if self._template is None:
            return self.read()
        sources = self._template.read()
        if sources is not None and (text := self._make(self._template, sources)) is not None:
            return text
        text = self.read()
        log.warning(f"{self._conf} is used as it is")
        return text

    def without_kubedns(self, error: UsageError) -> str | None:
        """What to begin with when the text of ``first`` is wrong: the same without the ConfigMap kube-dns.

        None where that is the same text. A stub domain that the template has, too, must not keep a node's DNS
        from starting. The file stays as it is: the plugin reload will say what is wrong with it.
        """
        if self._template is None or self._written is None or self._written.kubedns == KubeDNS():
            return None
        self._trouble.tell(
            "kube-dns", f"Invalid config: with the ConfigMap kube-dns, which is left out: {error}"
        )
        return fill(self._written.template, KubeDNS(), self._template.place)

    def poll(self) -> str | None:
        """Make the file anew if template or ConfigMap have changed; the new text, None where it stays."""
        if self._template is None:
            return None
        sources = self._template.read()
        if sources is None or sources == self._written:
            return None
        try:
            if fill(sources.template, sources.kubedns, self._template.place) == self._current():
                self._written = sources  # of a former life of this process
                return None
            return self._make(self._template, sources)
        except TemplateError as error:
            self._trouble.tell("template", f"Invalid config: {error}")
            return None

    def read(self) -> str:
        """The Corefile as it is now. Raises UsageError."""
        if self._text is not None:
            return self._text
        try:
            return kubedns.read_text(self._conf)
        except OSError as error:
            raise UsageError(f"{self._conf}: {error.strerror}; expected a Corefile") from None

    def _current(self) -> str | None:
        try:
            return self.read()
        except UsageError:
            return None

    def _make(self, template: "_Template", sources: "_Sources") -> str | None:
        """The text of ``sources``, in the file; None if it can't be written. Raises TemplateError."""
        text = fill(sources.template, sources.kubedns, template.place)
        self._trouble.over("template")
        try:
            replace_text(self._conf, text)
        except OSError as error:
            self._trouble.tell("write", f"Failed to write config file {self._conf} - err {error.strerror}")
            return None
        self._trouble.over("write")
        self._written = sources
        upstreams = " ".join(sources.kubedns.upstreams) or DEFAULT_UPSTREAM
        if sources.kubedns.upstreams and keeps_transport(sources.template):
            log.warning("Did not find TCP upstream block to replace, assuming upstreams already use UDP.")
        count = len(sources.kubedns.stub_domains)
        log.info(f"Updated Corefile with {count} custom stubdomains and upstream servers {upstreams}")
        log.info(f"Using config file:\n{text}")
        return text


@dataclass(frozen=True, slots=True)
class _Sources:
    """What a Corefile is made of."""

    template: str
    kubedns: KubeDNS


class _Template:
    """The template and the ConfigMap kube-dns, read again and again."""

    def __init__(
        self,
        node: NodeOptions,
        dns_port: int,
        environ: Mapping[str, str],
        trouble: "_Trouble",
        kubedns_dir: Path,
    ) -> None:
        service = node.upstream_service
        address = find_service(service, environ)
        if address is None:
            variable = service_variable(service)
            value = environ.get(variable, "")
            log.warning(
                f"Unable to lookup IP address of Upstream service {service}, env ${variable} `{value}`"
            )
        self.place = Place(node.local_ips, dns_port, service, address)
        self._file = Path(node.base_corefile)
        self._trouble = trouble
        self._kubedns = KubeDNS()  # the last that was right
        self._folder: Path | None = None
        if node.kubedns_dir:
            self._folder = Path(node.kubedns_dir)
        elif kubedns_dir.exists():
            self._folder = kubedns_dir
        else:
            log.info("Skipping kube-dns configmap sync as no directory was specified")

    def read(self) -> _Sources | None:
        """As they are now; None while there is no template."""
        try:
            text = kubedns.read_text(self._file)
        except (OSError, ConfigMapError) as error:
            self._trouble.tell("read", f"Failed to read node-cache coreFile {self._file} - {_text_of(error)}")
            return None
        self._trouble.over("read")
        return _Sources(text, self._read_kubedns())

    def _read_kubedns(self) -> KubeDNS:
        if self._folder is None:
            return self._kubedns
        try:
            self._kubedns = kubedns.parse(kubedns.read_keys(self._folder))
        except (OSError, ConfigMapError) as error:
            self._trouble.tell(
                "kube-dns", f"Failed to sync kube-dns config directory {self._folder}, err: {_text_of(error)}"
            )
        else:
            self._trouble.over("kube-dns")
        return self._kubedns


class _Trouble:
    """Errors that last are told once, until they are over or are others."""

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count
        self._told: dict[str, str] = {}

    def tell(self, about: str, what: str) -> None:
        if self._told.get(about) != what:
            self._told[about] = what
            self._count()
            log.error(what)

    def over(self, about: str) -> None:
        self._told.pop(about, None)


def _text_of(error: OSError | ConfigMapError) -> str:
    return str(error) if isinstance(error, ConfigMapError) else error.strerror or str(error)


def replace_text(file: Path, text: str) -> None:
    """Write a file so that whoever reads it sees all of the old text or all of the new. Raises OSError.

    Where nothing can be moved over it, it is written in place, as node-cache does; a file that has the text
    already is left alone.
    """
    target = Path(os.path.realpath(file))  # a link stays one; resolve() raises what is no OSError
    data = text.encode()
    try:
        before = target.stat()
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(file))
        if before.st_size == len(data) and target.read_bytes() == data:
            return
    except FileNotFoundError:
        before = None
    try:
        _move_over(target, data, before)
    except OSError as error:
        if before is None or error.errno not in _ONLY_IN_PLACE:
            raise
        target.write_bytes(data)


def _move_over(target: Path, data: bytes, before: os.stat_result | None) -> None:
    beside = target.with_name(f".{target.name}.fastdns")
    beside.unlink(missing_ok=True)  # of one that was killed
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            if before is not None:
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            opened.write(data)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
