"""Recipes by name: those that come with the package."""

from pathlib import Path

from bedside.errors import SpecError

_FOLDER = Path(__file__).parent.parent / "recipes"


def shipped_recipes() -> list[Path]:
    """Return the recipes that come with the package, by name."""
    return sorted(_FOLDER.glob("*.toml"))


def find_recipe(name_or_path: str | Path) -> Path:
    """Return the file of a recipe: any path, or the name of a shipped one.

    A name with a separator or the ending ".toml" is a path, any other that of a recipe.

    Args:
        name_or_path: Name such as "camus", or the path of a TOML file.

    Raises:
        SpecError: If no recipe of that name is shipped.

    Example:
        >>> find_recipe("camus").name, find_recipe("my.toml").name
        ('camus.toml', 'my.toml')
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" or len(path.parts) != 1:
        return path
    found = _FOLDER / f"{path}.toml"
    if not found.is_file():
        names = ", ".join(each.stem for each in shipped_recipes())
        raise SpecError(f'no recipe "{path}"; expected a .toml file, or one of {names}.')
    return found
