"""Count what the Python standard library is made of, file by file, and say how far it is.

It needs nothing but Python, and knows nothing of Hindbrain: the `::progress` lines are all it says to it.
"""

import ast
import sysconfig
import tokenize
from collections import Counter
from pathlib import Path

LIBRARY = Path(sysconfig.get_path("stdlib"))
BRANCHES = (ast.If, ast.For, ast.While, ast.Try, ast.With, ast.BoolOp, ast.IfExp, ast.comprehension)


def sources() -> list[Path]:
    """Every source file of the library, without what was installed into it."""
    found = LIBRARY.rglob("*.py")
    return sorted(path for path in found if not {"site-packages", "dist-packages"} & set(path.parts))


def count(path: Path, totals: Counter[str], branches: Counter[str]) -> None:
    """Add one file; what does not parse (the library has such files, to test with) is counted as that."""
    try:
        with tokenize.open(path) as file:
            text = file.read()
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        totals["files that are no valid Python"] += 1
        return
    totals["files"] += 1
    totals["lines"] += text.count("\n")
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                totals["functions"] += 1
                totals["functions with a docstring"] += ast.get_docstring(node) is not None
                totals["functions with annotations"] += node.returns is not None
                where = f"{path.relative_to(LIBRARY)}:{node.lineno} {node.name}"
                branches[where] = sum(isinstance(each, BRANCHES) for each in ast.walk(node))
            case ast.ClassDef():
                totals["classes"] += 1
            case ast.Import() | ast.ImportFrom():
                totals["imports"] += 1
            case _:
                pass


def main() -> None:
    """Read all, then print the sums."""
    paths = sources()
    totals: Counter[str] = Counter()
    branches: Counter[str] = Counter()
    step = max(1, len(paths) // 20)
    for done, path in enumerate(paths, 1):
        count(path, totals, branches)
        if done % step == 0 or done == len(paths):
            print(f"::progress {done}/{len(paths)}files {path.relative_to(LIBRARY)}", flush=True)
    for name, number in totals.most_common():
        print(f"{number:>10,}  {name}")
    print("most branches in one function:")
    for where, number in branches.most_common(5):
        print(f"{number:>10,}  {where}")


if __name__ == "__main__":
    main()
