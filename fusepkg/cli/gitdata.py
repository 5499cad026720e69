"""The commands track, checkout, pull, import and update, and what push, status, diff and init do for data in git."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusepkg.cli.opening import open_package
from fusepkg.cli.options import JsonErrorsOption, JsonOption, app_of
from fusepkg.cli.output import (
    EXIT_DIFFERENT,
    counted,
    human_bytes,
    note,
    print_json,
    progress_bar,
    say,
    short,
    show_phase,
)
from fusepkg.errors import HashNotFound, PackageError, UsageError
from fusepkg.gitdata import directories, imports, versions
from fusepkg.gitdata.pointer import SUFFIX, Pointer, parse_pointer
from fusepkg.gitdata.worktree import WAYS, Worktree, prepare
from fusepkg.index.difference import compare_indexes
from fusepkg.model.reference import DVC, LOCAL_BUCKET
from fusepkg.work.git import Commit, find_commit

if TYPE_CHECKING:
    from fusepkg.app.context import Context

PathsArgument = Annotated[
    list[Path] | None, typer.Argument(metavar="[PATH...]", help="What is tracked; default: all of the repository.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace also what holds changes that no version has.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(track)
    app.command()(checkout)
    app.command()(pull)
    app.command("import")(import_from)
    app.command()(update)


def init_git(context: typer.Context, registry: str, way: str) -> None:
    """Prepare a git repository to track data: `init --git`."""
    if way and way not in WAYS:
        raise UsageError(f"data cannot be brought as {way!r}", hint=f"Write {' or '.join(WAYS)}")
    worktree, occupied = prepare(Path.cwd(), registry, way)
    say(f"{worktree.root} tracks data; new packages go to {worktree.registry}")
    for hook in occupied:
        command = "push" if hook == "pre-push" else "checkout"
        note(f"Warning: there is a hook {hook} already; add a line to it: fusepkg {command}")
    if worktree.registry.startswith(f"{LOCAL_BUCKET}/"):
        note("Other machines cannot read `local`: --registry names a bucket or file:///DIR for them")


def track(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Directories and files of a git repository.")],
    as_json: JsonOption = False,
) -> None:
    """Make a version of a directory or file, and write PATH.fusepkg, which names it, for git to keep."""
    app, worktree = app_of(context), Worktree.of(paths[0].parent)
    facts = []
    for path in paths:
        with progress_bar() as show:
            done = versions.track(app, worktree, path, show_phase(show))
        pointer = done.pointer
        facts.append({"directory": done.name, "package": pointer.package, "top_hash": pointer.top_hash})
        if not as_json:
            what = f"{counted(pointer.files, 'file')}, {human_bytes(pointer.size)}"
            known = "" if done.is_new else ", as before"
            say(f"Tracking {done.name} as {pointer.package} ({short(pointer.top_hash)}): {what}{known}")
            ignore = str(Path(done.name).parent / ".gitignore")
            note(f"  To keep that in git: git add {done.name}{SUFFIX} {ignore}")
    if as_json:
        print_json(facts)


def checkout(
    context: typer.Context,
    paths: PathsArgument = None,
    mount: Annotated[bool, typer.Option("--mount", help="Mount what is not here, this time.")] = False,
    files: Annotated[bool, typer.Option("--files", help="Bring what is not here as files, this time.")] = False,
    force: ForceOption = False,
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Make tracked data what PATH.fusepkg says: bring, mount or drop it. Exit 1 if some was left as it is."""
    if mount and files:
        raise UsageError("--mount and --files exclude each other", hint="Without both, .fusepkg.toml decides")
    _check_out(context, paths, "mount" if mount else "files" if files else "", force=force)


def pull(
    context: typer.Context,
    paths: PathsArgument = None,
    force: ForceOption = False,
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Bring tracked data as files, fetching what this machine lacks: `checkout --files`."""
    _check_out(context, paths, "files", force=force)


def _check_out(context: typer.Context, paths: list[Path] | None, way: str, *, force: bool) -> None:
    app, worktree = app_of(context), Worktree.of(Path.cwd())
    only = [worktree.name_of(path) for path in paths or ()]
    _require_known(worktree, only)
    is_left = False
    with progress_bar() as show:
        for done in directories.checkout(app, worktree, only, way=way, force=force, progress=show_phase(show)):
            (note if done.is_left else say)(f"{done.name} {done.what}")
            is_left = is_left or done.is_left
    if is_left:
        raise typer.Exit(EXIT_DIFFERENT)


def import_from(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="GIT_URL", help="A git repository: a URL, or a directory; or dvc+... with REF.")
    ],
    path: Annotated[
        str, typer.Argument(metavar="PATH|REF", help="What it tracks there; of dvc+..., the package to make.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT", help="Where to: a new directory, or one to put it into."),
    ] = None,
    revision: Annotated[str, typer.Option("--rev", metavar="REV", help="A branch, a tag or a commit of it.")] = "",
    no_data: Annotated[bool, typer.Option("--no-data", help="Write the pointer only.")] = False,
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Take a tracked directory or file of another repository, and remember where it is from.

    `import dvc+... REF` makes a package of what a DVC repository tracks; in a bucket the data stays where it is.
    """
    if source.startswith(f"{DVC}+"):
        from fusepkg.cli.dvc import import_repository

        if out or revision or no_data:
            raise UsageError("-o, --rev and --no-data are for git repositories", hint=f"{source}@REV names a revision")
        import_repository(app_of(context), source, path)
        return
    app, worktree = app_of(context), Worktree.of(Path.cwd())
    name, pointer = imports.import_directory(worktree, source, path, out, revision, _copies(app))
    assert pointer.origin is not None, "it was imported"
    say(f"Importing {path} of {source} at {short(pointer.origin.commit)} as {name} ({short(pointer.top_hash)})")
    note(f"  To keep that in git: git add {name}{SUFFIX} {Path(name).parent / '.gitignore'}")
    if not no_data:
        _check_out(context, [worktree.root / name], "", force=False)


def update(
    context: typer.Context,
    paths: PathsArgument = None,
    revision: Annotated[str, typer.Option("--rev", metavar="REV", help="Follow another branch, tag or commit.")] = "",
    _json_errors: JsonErrorsOption = False,
) -> None:
    """Look whether imported directories have moved on where they are from, and bring what is new."""
    app, worktree = app_of(context), Worktree.of(Path.cwd())
    only = [worktree.name_of(path) for path in paths or ()]
    pointers = worktree.pointers()
    _require_known(worktree, only)
    imported = {name: pointer for name, pointer in pointers.items() if pointer.origin and (not only or name in only)}
    if only and len(imported) < len(set(only)):
        raise UsageError("only imported directories can be updated", hint="`fusepkg track DIR` is for your own")
    moved = []
    for name, pointer in imported.items():
        newer = imports.update(worktree, name, pointer, revision, _copies(app))
        if newer is None:
            say(f"{name} is up to date")
        else:
            say(f"{name}: {short(pointer.top_hash)} -> {short(newer.top_hash)}")
            moved.append(worktree.root / name)
    if moved:
        _check_out(context, moved, "", force=False)


# --- push, status and diff -----------------------------------------------------------------------------------


def push_tracked(context: typer.Context, *, as_json: bool) -> None:
    """Send the data of all pointers to their registry: `push` without arguments."""
    app, worktree = app_of(context), Worktree.of(Path.cwd())
    facts = []
    for name, pointer in worktree.pointers().items():
        if pointer.origin is not None:
            continue  # its own repository has pushed it
        if versions.is_pushed(app, pointer):
            facts.append({"directory": name, "top_hash": pointer.top_hash, "sent_bytes": 0, "is_new": False})
            if not as_json:
                say(f"{name} is in {pointer.package} already")
            continue
        try:
            with progress_bar() as show:
                sent = versions.push_version(app, pointer, show_phase(show))
        except HashNotFound as exc:
            raise HashNotFound(
                f"{name}{SUFFIX} names the version {pointer.top_hash}, which is neither here nor in {pointer.package}",
                hint="Push it where it was tracked, or track it again here",
            ) from exc
        facts.append({"directory": name, "top_hash": pointer.top_hash, "sent_bytes": sent, "is_new": True})
        if not as_json:
            say(f"{name} is pushed to {pointer.package} ({short(pointer.top_hash)}, {human_bytes(sent)} sent)")
    if as_json:
        print_json(facts)
    elif not facts:
        note("Nothing of this repository is tracked, but what was imported: `fusepkg track DIR`")


def show_tracked(context: typer.Context, worktree: Worktree, *, as_json: bool) -> None:
    """Tell of each pointer whether its directory matches, and whether its data is pushed: `status` in a repository."""
    app, brought = app_of(context), worktree.brought()
    facts = []
    for name, pointer in worktree.pointers().items():
        state = directories.state_of(app, worktree, name, pointer, brought.get(name))
        pushed = pointer.origin is not None or versions.is_pushed(app, pointer)
        facts.append(
            {
                "directory": name,
                "state": state.value,
                "is_pushed": pushed,
                "package": pointer.package,
                "top_hash": pointer.top_hash,
            }
        )
        if not as_json:
            say(f"{name} ({short(pointer.top_hash)}): {state.value}{'' if pushed else ', not pushed'}")
    if as_json:
        print_json(facts)
    elif not facts:
        say("Nothing is tracked: `fusepkg track DIR`")


def revisions_of(old: str, new: str) -> tuple[Commit, Commit] | None:
    """Return the commits that two revisions name in this repository; None if they are references of packages."""
    worktree = Worktree.find(Path.cwd())
    if worktree is None:
        return None
    try:
        return find_commit(worktree.root, old, "this repository"), find_commit(worktree.root, new, "this repository")
    except PackageError:
        return None


def diff_revisions(context: typer.Context, old: Commit, new: Commit, *, as_json: bool) -> None:
    """List what differs in tracked data between two revisions: `diff REV REV`. Exit 1 if anything does."""
    app = app_of(context)
    before, after = _pointers_at(old), _pointers_at(new)
    facts: list[dict[str, object]] = []
    for name in sorted({*before, *after}):
        one, other = before.get(name), after.get(name)
        if one == other or (one and other and one.top_hash == other.top_hash):
            continue
        if one is None or other is None:
            there = one or other
            assert there is not None, "it is in one of them"
            facts.append(
                {
                    "kind": "removed" if other is None else "added",
                    "path": name if there.file else f"{name}/",
                    "size": there.size,
                }
            )
            continue
        indexes = [open_package(app, str(versions.where_it_is(app, pointer))).index for pointer in (one, other)]
        facts += [
            {
                "kind": change.kind,
                "path": name if other.file else f"{name}/{change.logical_key}",
                "size": (change.new or change.old).size,  # type: ignore[union-attr] # one of them is there
            }
            for change in compare_indexes(*indexes)
        ]
    if as_json:
        print_json(facts)
    for fact in facts if not as_json else ():
        say(f"{fact['kind']:<8}  {fact['path']} ({human_bytes(int(str(fact['size'])))})")
    if facts:
        raise typer.Exit(EXIT_DIFFERENT)
    note("No tracked data differs")


def _pointers_at(commit: Commit) -> dict[str, Pointer]:
    blobs = {path: blob for path, blob in commit.blobs().items() if path.endswith(SUFFIX)}
    texts = commit.read(blobs.values())
    return {
        path.removesuffix(SUFFIX): parse_pointer(text, f"{commit.hash[:9]}: {path}")
        for path, text in zip(blobs, texts, strict=True)
    }


def _require_known(worktree: Worktree, names: list[str]) -> None:
    known = {**worktree.pointers(), **worktree.brought()}
    for name in names:
        if name not in known:
            raise UsageError(f"{name} is not tracked: there is no {name}{SUFFIX}", hint=f"`fusepkg track {name}`")


def _copies(app: Context) -> Path:
    return app.settings.data_dir / "git"
