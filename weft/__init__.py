from pathlib import Path as _Path

_root = _Path(__file__).parent.parent
if (_root / "pyproject.toml").is_file() and (_root / "compiler").is_dir():
    __path__.append(str(_root))
