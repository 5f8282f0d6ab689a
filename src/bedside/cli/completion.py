"""`bedside completion`: shell completion of commands, options and values."""

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from bedside.cli.arguments import positional
from bedside.cli.commands import COMMANDS
from bedside.cli.console import print_out

# Fields that take the name of a shipped bundle, or a file; `recipe` takes that of a recipe.
_BUNDLES = ("model", "bundle", "bundles")


@dataclass(frozen=True)
class Settings:
    """Print a script for the completion of commands, options and values by a shell.

    For bash: `source <(bedside completion bash)` in ~/.bashrc; for zsh the same with zsh in
    ~/.zshrc; for fish: `bedside completion fish | source` in config.fish.
    """

    shell: str = positional(help="which shell", choices=("bash", "zsh", "fish"))


@dataclass(frozen=True)
class Option:
    """An option or a positional argument of a command.

    Attributes:
        flags: Such as ("-o", "--output"); none for a positional argument.
        help: What it is.
        values: Words to offer; none where only a file can be named.
        takes_value: Whether a word follows the flag.
    """

    flags: tuple[str, ...]
    help: str
    values: tuple[str, ...]
    takes_value: bool


def run(settings: Settings) -> int:
    """Print the script."""
    options = {name: list_options(name) for name in COMMANDS}
    write = {"bash": write_bash, "zsh": write_zsh, "fish": write_fish}[settings.shell]
    print_out(write(options, COMMANDS))
    return 0


def list_options(command: str) -> list[Option]:
    """Return the options of a command, from the fields of its settings."""
    from bedside.bundle.shipped import shipped_bundles
    from bedside.spec import shipped_recipes

    named = dict.fromkeys(_BUNDLES, tuple(path.stem for path in shipped_bundles()))
    named["recipe"] = tuple(path.stem for path in shipped_recipes())
    settings = importlib.import_module(f"bedside.cli.{command}").Settings
    found = [Option(("-h", "--help"), "show the help", (), takes_value=False)]
    for field in dataclasses.fields(settings):
        described = field.metadata
        values = described["choices"] or named.get(field.name, ())
        flags: tuple[str, ...] = ()
        if not described["positional"]:
            short = described["short"]
            flags = (*((short,) if short else ()), "--" + field.name.replace("_", "-"))
        texts = tuple(str(value) for value in values)
        found.append(
            Option(flags, described["help"], texts, takes_value=field.default is not False)
        )
    return found


def write_bash(options: Mapping[str, list[Option]], commands: Mapping[str, str]) -> str:
    """Return the script for bash."""
    values, flags, words = [], [], []
    for command, own in options.items():
        flags.append(f"    {command}) flags='{' '.join(f for o in own for f in o.flags)}' ;;")
        for option in own:
            patterns = "|".join(f"'{command} {flag}'" for flag in option.flags)
            if option.flags and option.takes_value:
                values.append(f"    {patterns}) values='{' '.join(option.values)}' ;;")
        if places := [value for o in own if not o.flags for value in o.values]:
            words.append(f"    {command}) words='{' '.join(places)}' ;;")
    lines = "\n".join
    return f"""_bedside() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
  local command=${{COMP_WORDS[1]}} values=- flags= words=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '{" ".join(commands)} --help --version --debug' -- "$current"))
    return
  fi
  case "$command $before" in
{lines(values)}
  esac
  case "$command" in
{lines(flags)}
  esac
  case "$command" in
{lines(words)}
  esac
  if [ "$values" != - ]; then
    COMPREPLY=($(compgen -W "$values" -- "$current"))
  elif [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$current"))
  else
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  fi
}}
complete -o default -F _bedside bedside"""


def write_zsh(options: Mapping[str, list[Option]], commands: Mapping[str, str]) -> str:
    """Return the script for zsh, which runs that for bash."""
    return f"autoload -Uz +X bashcompinit && bashcompinit\n{write_bash(options, commands)}"


def write_fish(options: Mapping[str, list[Option]], commands: Mapping[str, str]) -> str:
    """Return the script for fish."""
    lines = [
        f"complete -c bedside -n __fish_use_subcommand -f -a {name} -d {_quote(line)}"
        for name, line in commands.items()
    ]
    for command, own in options.items():
        start = f"complete -c bedside -n '__fish_seen_subcommand_from {command}'"
        for option in own:
            words = [start]
            for flag in option.flags:
                words.append(f"-{'l' if flag.startswith('--') else 's'} {flag.lstrip('-')}")
            if option.flags and option.takes_value:
                words.append("-r")
            if option.values:
                words.append(f"-a {_quote(' '.join(option.values))}")
            if option.flags or option.values:
                lines.append(" ".join([*words, f"-d {_quote(option.help)}"]))
    return "\n".join(lines)


def _quote(text: str) -> str:
    r"""Quote a text for fish.

    Example:
        >>> print(_quote("the user's"))
        'the user\'s'
    """
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
