"""The images of the Dockerfile, built and run by buildah: it needs root, but no daemon and no registry.

A Debian made by debootstrap stands in for the Dockerfile's base. How this machine reaches its package indexes (the
mirror of apt, the configuration of pip) is read here and mounted while it builds, so that no image knows of it.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.documents import ROOT

BASE = "docker.io/library/debian:bookworm-slim"
TOOLS = ("buildah", "debootstrap")
GIBIBYTES = 12
"""Disk that building both images takes at most."""


def obstacle(folder: Path) -> str | None:
    """Why no image can be built in `folder`; None when it can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not found (Debian's packages of these names)"
    if os.geteuid() != 0:
        return "building without a daemon needs root here"
    if shutil.disk_usage(folder).free < GIBIBYTES << 30:
        return f"less than {GIBIBYTES} GiB are free in {folder}"
    return None


@dataclass(frozen=True)
class Image:
    """A built image; `config` is its configuration in Docker's words."""

    builder: "Builder"
    name: str

    @property
    def config(self) -> dict[str, Any]:
        content = json.loads(self.builder.buildah("inspect", "--type", "image", self.name))
        config: dict[str, Any] = content["Docker"]["config"]
        return config

    def container(self) -> "Container":
        """A container of its own, in which nothing runs yet."""
        return Container(self.builder, self.builder.buildah("from", "--pull-never", self.name).strip())


@dataclass(frozen=True)
class Container:
    """A writable copy of an image, in which commands run as the image's user."""

    builder: "Builder"
    name: str

    def command(self, *words: str, volumes: Sequence[str] = (), **environment: str) -> list[str]:
        """The command line that runs `words` inside, on the network of this machine."""
        options = [f"--volume={volume}" for volume in volumes]
        options += [f"--env={name}={value}" for name, value in environment.items()]
        return self.builder.command("run", "--isolation=chroot", *options, self.name, "--", *words)

    def run(self, *words: str, volumes: Sequence[str] = ()) -> str:
        """What `words` print inside; raises CalledProcessError."""
        return self.builder.output(self.command(*words, volumes=volumes))

    def root(self) -> Path:
        """Its file system as this machine sees it."""
        return Path(self.builder.buildah("mount", self.name).strip())


class Builder:
    """A container storage of its own in `folder`; after `close` the folder may be removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.driver = "overlay"
        (folder / "tmp").mkdir()
        try:
            self.buildah("info")
        except subprocess.CalledProcessError:  # overlay on overlay, for one; copies work everywhere
            self.driver = "vfs"

    def command(self, *words: str) -> list[str]:
        """A command line of buildah."""
        storage = [f"--root={self.folder}/{self.driver}", f"--runroot={self.folder}/{self.driver}-run"]
        return ["buildah", *storage, f"--storage-driver={self.driver}", *words]

    def output(self, command: Sequence[str]) -> str:
        """What a command prints; all that it said goes to standard error when it fails."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            sys.stderr.write(f"{' '.join(command)}\n{done.stdout[-20_000:]}\n{done.stderr[-20_000:]}")
        done.check_returncode()
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """What buildah works by, besides its options."""
        return {**os.environ, "TMPDIR": str(self.folder / "tmp")}

    def buildah(self, *words: str) -> str:
        """What buildah prints."""
        return self.output(self.command(*words))

    def make_base(self) -> None:
        """The least Debian 12 from this machine's mirror, under the name of the Dockerfile's base."""
        tree = self.folder / "base"
        self.output(["debootstrap", "--variant=minbase", "bookworm", str(tree), *self._mirror()])
        (tree / "etc/apt/apt.conf.d/machine").write_text("\n".join(self._apt_settings()) + "\n")
        shutil.rmtree(tree / "dev")  # device files: whoever runs a container mounts its own
        shutil.rmtree(tree / "var/cache/apt")
        container = self.buildah("from", "scratch").strip()
        self.buildah("add", "--quiet", container, str(tree), "/")
        self.buildah("commit", "--quiet", "--rm", "--format=docker", container, BASE)
        shutil.rmtree(tree)

    def _mirror(self) -> list[str]:
        """Where apt has Debian 12 from; empty, which takes debootstrap's own, where it is another system."""
        listed = self.output(
            ["apt-get", "indextargets", "--format", "$(RELEASE) $(SITE)", "Created-By: Packages", "Component: main"]
        )
        return [
            site for release, _, site in (line.partition(" ") for line in listed.splitlines()) if release == "bookworm"
        ][:1]

    def _apt_settings(self) -> list[str]:
        lines = self.output(["apt-config", "dump"]).splitlines()
        return [line for line in lines if re.match(r"Acquire::(https?|Check-)", line)]

    def build(self, target: str) -> Image:
        """A target of the Dockerfile, built with this machine's way to the package index."""
        index = os.environ.get("DLE_TORCH_INDEX")
        arguments = [] if index is None else [f"--build-arg=TORCH_INDEX={index}"]
        arguments += [f"--volume={source}:{place}:ro" for source, place in self._pip_volumes().items()]
        self.buildah(
            "bud", "--isolation=chroot", "--format=docker", "--pull-never", *arguments,
            f"--target={target}", f"--tag=dle-{target}", str(ROOT),
        )  # fmt: skip
        return Image(self, f"localhost/dle-{target}")

    def _pip_volumes(self) -> dict[str, str]:
        """pip's configuration as this machine has it, at a place where pip looks, and the folders that it names."""
        listed = self.output([sys.executable, "-m", "pip", "config", "list"])
        settings = {}
        for key, value in re.findall(r"^\S+\.([a-z-]+)=(.*)$", listed, re.MULTILINE):
            settings[key] = ast.literal_eval(value)
        folder = self.folder / "pip"
        folder.mkdir(exist_ok=True)
        certificates = settings.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
        if certificates:
            shutil.copyfile(certificates, folder / "ca.crt")
            settings["cert"] = "/etc/xdg/pip/ca.crt"
        if "constraint" in settings:
            files = [Path(urlsplit(word).path) for word in settings["constraint"].split()]
            for file in files:
                shutil.copyfile(file, folder / file.name)
            settings["constraint"] = " ".join(f"/etc/xdg/pip/{file.name}" for file in files)
        lines = [f"{key} = {value}" for key, value in settings.items()]
        (folder / "pip.conf").write_text("\n".join(["[global]", *lines, ""]))
        links = [Path(urlsplit(word).path) for word in settings.get("find-links", "").split()]
        words = [*settings.get("index-url", "").split(), *settings.get("extra-index-url", "").split()]
        links += [
            Path(urlsplit(word).path).parent for word in words if word.startswith("file:")
        ]  # files beside simple/
        return {str(folder): "/etc/xdg/pip", **{str(path): str(path) for path in links if path.is_dir()}}

    def close(self) -> None:
        """Remove all containers and what is mounted below the folder."""
        self.buildah("rm", "--all")
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in sorted((place for place in mounted if place.startswith(f"{self.folder}/")), reverse=True):
            self.output(["umount", place])
