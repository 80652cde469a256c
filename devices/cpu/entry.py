"""Native entries: the function CPython calls when a compiled function is called.

An entry has the vectorcall signature. It checks every argument against an `EntrySpec`, allocates
the results, calls the compiled `void main(ptr buffers, ptr sizes)` and builds the return value, all
without a line of Python. Whatever it does not expect (a keyword, a subclass, another dtype, shape
or memory order, an object array, None) is a miss: it calls the next entry, by the pointer in the
variable `<name>.next`, which at first leads to the method `_dispatch` of the callable. Nothing has
happened then but looking.

`buffers` has one pointer for each parameter, then one for each result: to the elements of an
array, to the value of a scalar (f64 for a Python float, i64 for an int, one byte for a bool, two
f64 for a complex), null for a parameter without data; a result that is a parameter has that one's.
`sizes` has one i64 for each name in `EntrySpec.sizes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from weft.compiler.types import Dim, DType, Size
from weft.devices.cpu.entry_spec import EntrySpec, Param, Result
from weft.devices.cpu.python_api import ARRAY, SCALAR

__all__ = ["EntrySpec", "Param", "Result", "entry_ir"]

_CONTIGUOUS, _WRITEABLE = 0x101, 0x400  # C_CONTIGUOUS | ALIGNED


def entry_ir(spec: EntrySpec) -> str:
    """The entry as a module of LLVM IR, to be linked with the one that defines `spec.main`.

    The text depends on nothing but the spec. Raises `ValueError` where a size cannot be found from
    the parameters.
    """
    return _Entry(spec).module()


_KINDS = {  # Python scalars: type object, LLVM type, function to an object
    "pyfloat": ("PyFloat_Type", "double", "PyFloat_FromDouble"),
    "pyint": ("PyLong_Type", "i64", "PyLong_FromLongLong"),
    "pybool": ("PyBool_Type", "i8", "PyBool_FromLong"),
    "pycomplex": ("PyComplex_Type", "double", "PyComplex_FromDoubles"),
}
_DECLARES = """
declare ptr @weft_dispatch(ptr, ptr, i64, ptr) nounwind
declare ptr @weft_failed(ptr, i32, ptr, i64) nounwind
declare ptr @weft_new_array(ptr, i64, i32, ptr) nounwind
declare i1 @weft_same_descr(ptr, ptr) nounwind
declare i1 @weft_disjoint(ptr, i64, ptr, i64) nounwind
declare void @weft_drop(ptr, i64) nounwind
declare ptr @weft_pack_tuple(ptr, i64) nounwind
declare ptr @weft_pack_list(ptr, i64) nounwind
declare ptr @weft_np_Scalar(ptr, ptr, ptr) nounwind
declare double @PyFloat_AsDouble(ptr) nounwind
declare double @PyComplex_RealAsDouble(ptr) nounwind
declare double @PyComplex_ImagAsDouble(ptr) nounwind
declare i64 @PyLong_AsLongLongAndOverflow(ptr, ptr) nounwind
declare ptr @PyFloat_FromDouble(double) nounwind
declare ptr @PyLong_FromLongLong(i64) nounwind
declare ptr @PyBool_FromLong(i64) nounwind
declare ptr @PyComplex_FromDoubles(double, double) nounwind
declare ptr @PyEval_SaveThread() nounwind
declare void @PyEval_RestoreThread(ptr) nounwind
declare void @Py_IncRef(ptr) nounwind
declare { i64, i1 } @llvm.smul.with.overflow.i64(i64, i64)
declare { i64, i1 } @llvm.sadd.with.overflow.i64(i64, i64)
"""


class _Entry:
    """Writes one entry. Values are texts: `%5`, or a constant."""

    def __init__(self, spec: EntrySpec) -> None:
        self.spec = spec
        self.lines: list[str] = []
        self.objects: set[str] = {"_Py_NoneStruct"}  # external variables
        self.sizes: dict[str, str] = {}              # size name -> value
        self.buffers: list[str] = []
        self.args: list[str] = []
        self._names = count()

    # ---- writing

    def do(self, text: str) -> None:
        """Write an instruction that has no value."""
        self.lines.append("  " + text)

    def let(self, text: str) -> str:
        """Write an instruction and return its value."""
        name = f"%v{next(self._names)}"
        self.do(f"{name} = {text}")
        return name

    def label(self, stem: str) -> str:
        """A new label."""
        return f"{stem}{next(self._names)}"

    def start(self, label: str) -> None:
        """Begin a block."""
        self.lines.append(f"{label}:")

    def require(self, condition: str, otherwise: str = "miss") -> None:
        """Go on where the condition holds, else to the label."""
        go = self.label("go")
        self.do(f"br i1 {condition}, label %{go}, label %{otherwise}")
        self.start(go)

    def same(self, type: str, a: str, b: str | int) -> None:
        """Miss unless a == b."""
        self.require(self.let(f"icmp eq {type} {a}, {b}"))

    def field(self, obj: str, offset: int, type: str = "ptr") -> str:
        """Load a field of an object."""
        return self.let(f"load {type}, ptr {self.at(obj, offset)}")

    def at(self, obj: str, offset: int) -> str:
        """An address some bytes on."""
        return self.let(f"getelementptr i8, ptr {obj}, i64 {offset}") if offset else obj

    def object(self, name: str) -> str:
        """The address of a Python object known by a symbol."""
        self.objects.add(name)
        return "@" + name

    # ---- the function

    def module(self) -> str:
        """The whole module."""
        spec = self.spec
        self.checks()
        missing = set(spec.sizes) - set(self.sizes)
        if missing:
            raise ValueError(f"no parameter gives the size {', '.join(sorted(missing))}")
        self.run()
        result = "i32" if spec.status else "void"
        external = "".join(f"@{name} = external global i8\n" for name in sorted(self.objects))
        return "\n".join([
            external + _DECLARES + f"declare {result} @{spec.main}(ptr, ptr) nounwind",
            f"@{spec.name}.next = global ptr @weft_dispatch",
            f"define ptr @{spec.name}(ptr %self, ptr %args, i64 %nargsf, ptr %kwnames) nounwind {{",
            "entry:", *self.slots(), *self.lines,
            "miss:",
            f"  %next = load ptr, ptr @{spec.name}.next",
            "  %missed = musttail call ptr %next(ptr %self, ptr %args, i64 %nargsf, ptr %kwnames)",
            "  ret ptr %missed",
            "fail:",
            f"  call void @weft_drop(ptr %objects, i64 {len(spec.results)})",
            "  ret ptr null", "}\n"])

    def slots(self) -> Iterator[str]:
        """Stack slots, at the function's start."""
        spec = self.spec
        most = max([len(r.shape) for r in spec.results] + [1])
        yield f"  %buffers = alloca [{len(spec.params) + len(spec.results) + 1} x ptr]"
        yield f"  %sizes = alloca [{len(spec.sizes) + 1} x i64]"
        yield f"  %shape = alloca [{most} x i64]"
        yield f"  %objects = alloca [{len(spec.results) + 1} x ptr]"
        yield "  %overflow = alloca i32"
        for i in range(len(spec.params)):
            yield f"  %in{i} = alloca [2 x double], align 16"
        for i in range(len(spec.results)):
            yield f"  %out{i} = alloca [2 x double], align 16"

    def checks(self) -> None:
        """Everything that can miss."""
        params = self.spec.params
        self.same("ptr", "%kwnames", "null")
        nargs = self.let("and i64 %nargsf, 9223372036854775807")
        self.same("i64", nargs, len(params))
        args = self.args = [self.field("%args", 8 * i) for i in range(len(params))]
        late: list[tuple[str, Dim]] = []
        for i, (param, arg) in enumerate(zip(params, args)):
            if param.kind == "array":
                late += self.array(param, arg)
            elif param.kind == "npscalar":
                self.typed(arg, f"weft_np_scalar_{param.dtype}")
                self.buffers.append(self.at(arg, SCALAR))
            elif param.kind == "none":
                self.same("ptr", arg, self.object("_Py_NoneStruct"))
                self.buffers.append("null")
            else:
                self.python_scalar(i, param, arg)
        for value, dim in late:
            self.same("i64", value, self.size(dim))
        for name, least in zip(self.spec.sizes, self.spec.at_least):
            if least > 0 and name in self.sizes:
                self.require(self.let(f"icmp sge i64 {self.sizes[name]}, {least}"))
        self.overlaps()

    def typed(self, arg: str, type: str) -> None:
        """Miss unless the argument is of exactly this type."""
        self.same("ptr", self.field(arg, 8), self.object(type))

    def array(self, param: Param, arg: str) -> list[tuple[str, Dim]]:
        """Check an array; returns the dimensions to compare once all sizes are known."""
        late: list[tuple[str, Dim]] = []
        self.typed(arg, "weft_np_array")
        self.descr(arg, self.object(f"weft_np_descr_{param.dtype}"))
        self.same("i32", self.field(arg, ARRAY["nd"], "i32"), len(param.shape))
        need = _CONTIGUOUS | (_WRITEABLE if param.writeable else 0)
        flags = self.let(f"and i32 {self.field(arg, ARRAY['flags'], 'i32')}, {need}")
        self.same("i32", flags, need)
        dims = self.field(arg, ARRAY["dims"]) if param.shape else ""
        for i, dim in enumerate(param.shape):
            value = self.field(dims, 8 * i, "i64")
            name = _symbol(dim)
            if name in self.sizes or isinstance(dim, int):
                self.same("i64", value, dim if isinstance(dim, int) else self.sizes[name])
            elif name:
                self.sizes[name] = value
            else:
                late.append((value, dim))
        self.buffers.append(self.field(arg, ARRAY["data"]))
        return late

    def descr(self, arg: str, builtin: str) -> None:
        """Miss unless the array's dtype object is the built-in one, or one that means the same."""
        slow, good = self.label("slow"), self.label("descr")
        found = self.field(arg, ARRAY["descr"])
        known = self.let(f"icmp eq ptr {found}, {builtin}")
        self.do(f"br i1 {known}, label %{good}, label %{slow}")
        self.start(slow)
        alike = self.let(f"call i1 @weft_same_descr(ptr {found}, ptr {builtin})")
        self.do(f"br i1 {alike}, label %{good}, label %miss")
        self.start(good)

    def python_scalar(self, i: int, param: Param, arg: str) -> None:
        """Check a Python scalar and store its value in its slot."""
        slot = f"%in{i}"
        kind = param.kind
        if kind == "equal_bool":
            wanted = "_Py_TrueStruct" if param.value else "_Py_FalseStruct"
            self.same("ptr", arg, self.object(wanted))
        else:
            self.typed(arg, _KINDS["pyint" if kind == "equal_int" else kind][0])
        if kind == "pyfloat":
            value = self.let(f"call double @PyFloat_AsDouble(ptr {arg})")
            self.do(f"store double {value}, ptr {slot}")
        elif kind == "pycomplex":
            for j, part in enumerate(("Real", "Imag")):
                value = self.let(f"call double @PyComplex_{part}AsDouble(ptr {arg})")
                self.do(f"store double {value}, ptr {self.at(slot, 8 * j)}")
        elif kind == "pybool":
            true = self.let(f"icmp eq ptr {arg}, {self.object('_Py_TrueStruct')}")
            self.do(f"store i8 {self.let(f'zext i1 {true} to i8')}, ptr {slot}")
        elif kind in ("pyint", "equal_int"):
            value = self.let(
                f"call i64 @PyLong_AsLongLongAndOverflow(ptr {arg}, ptr %overflow)")
            self.same("i32", self.let("load i32, ptr %overflow"), 0)
            if kind == "equal_int":
                self.same("i64", value, param.value)
            self.do(f"store i64 {value}, ptr {slot}")
        self.buffers.append("null" if kind.startswith("equal") else slot)

    def overlaps(self) -> None:
        """Miss where memory that main writes to belongs to another array too."""
        args = self.args
        arrays = [(i, p, _itemsize(p.dtype)) for i, p in enumerate(self.spec.params)
                  if p.kind == "array"]
        for i, p, item in arrays:
            for j, q, other in arrays:
                if p.writeable and i != j and not (q.writeable and j < i):
                    self.require(self.let(f"call i1 @weft_disjoint(ptr {args[i]}, i64 {item}, "
                                          f"ptr {args[j]}, i64 {other})"))

    def size(self, dim: Dim) -> str:
        """The value of a dimension; a miss if it does not fit an i64."""
        if isinstance(dim, int):
            return str(dim)
        total = "0"
        for names, factor in dim.terms:
            value = str(factor)
            for name in names:
                if name not in self.sizes:
                    raise ValueError(f"no parameter gives the size {name}")
                value = self.exact("mul", value, self.sizes[name])
            total = value if total == "0" else self.exact("add", total, value)
        return total

    def exact(self, op: str, a: str, b: str) -> str:
        """a op b, or a miss on overflow."""
        if op == "mul" and a == "1":
            return b
        pair = self.let(f"call {{ i64, i1 }} @llvm.s{op}.with.overflow.i64(i64 {a}, i64 {b})")
        over = self.let(f"extractvalue {{ i64, i1 }} {pair}, 1")
        self.require(self.let(f"xor i1 {over}, true"))
        return self.let(f"extractvalue {{ i64, i1 }} {pair}, 0")

    # ---- running

    def run(self) -> None:
        """Allocate, call main, build the results."""
        spec = self.spec
        shapes = [[self.size(d) for d in r.shape] for r in spec.results]  # the last that may miss
        for i in range(len(spec.results)):
            self.do(f"store ptr null, ptr {self.at('%objects', 8 * i)}")
        for i, (result, shape) in enumerate(zip(spec.results, shapes)):
            self.buffers.append(self.room(i, result, shape))
        for i, buffer in enumerate(self.buffers):
            self.do(f"store ptr {buffer}, ptr {self.at('%buffers', 8 * i)}")
        for i, name in enumerate(spec.sizes):
            self.do(f"store i64 {self.sizes[name]}, ptr {self.at('%sizes', 8 * i)}")
        self.call_main()
        for i, result in enumerate(spec.results):
            self.finish(i, result)
        self.give_back()

    def room(self, i: int, result: Result, shape: list[str]) -> str:
        """Where main writes this result."""
        if result.kind == "alias":
            return self.buffers[result.param]
        if result.kind != "array":
            return f"%out{i}"
        for j, dim in enumerate(shape):
            self.do(f"store i64 {dim}, ptr {self.at('%shape', 8 * j)}")
        descr = self.object(f"weft_np_descr_{result.dtype}")
        new = self.let(f"call ptr @weft_new_array(ptr {descr}, i64 {_itemsize(result.dtype)}, "
                       f"i32 {len(shape)}, ptr %shape)")
        self.keep(i, new)
        return self.field(new, ARRAY["data"])

    def keep(self, i: int, obj: str) -> None:
        """Note a new result, or fail if it is null."""
        self.require(self.let(f"icmp ne ptr {obj}, null"), "fail")
        self.do(f"store ptr {obj}, ptr {self.at('%objects', 8 * i)}")

    def call_main(self) -> None:
        """Call main, other threads running meanwhile if so wished."""
        spec = self.spec
        state = self.let("call ptr @PyEval_SaveThread()") if spec.release_gil else ""
        if spec.status:
            status = self.let(f"call i32 @{spec.main}(ptr %buffers, ptr %sizes)")
        else:
            self.do(f"call void @{spec.main}(ptr %buffers, ptr %sizes)")
        if state:
            self.do(f"call void @PyEval_RestoreThread(ptr {state})")
        if spec.status:
            good, bad = self.label("good"), self.label("bad")
            self.do(f"br i1 {self.let(f'icmp eq i32 {status}, 0')}, label %{good}, label %{bad}")
            self.start(bad)
            self.do(f"call void @weft_drop(ptr %objects, i64 {len(spec.results)})")
            value = self.let(f"call ptr @weft_failed(ptr %self, i32 {status}, ptr %args, "
                             f"i64 {len(spec.params)})")
            self.do(f"ret ptr {value}")
            self.start(good)

    def finish(self, i: int, result: Result) -> None:
        """Make the object of a result that is not an array."""
        if result.kind == "alias":
            obj = self.args[result.param]
            self.do(f"call void @Py_IncRef(ptr {obj})")
            self.do(f"store ptr {obj}, ptr {self.at('%objects', 8 * i)}")
        elif result.kind == "scalar":
            descr = self.object(f"weft_np_descr_{result.dtype}")
            self.keep(i, self.let(f"call ptr @weft_np_Scalar(ptr %out{i}, ptr {descr}, ptr null)"))
        elif result.kind != "array":
            _, type, function = _KINDS[result.kind]
            value = self.field(f"%out{i}", 0, type)
            if result.kind == "pybool":
                type, value = "i64", self.let(f"zext i8 {value} to i64")
            more = f", double {self.field(f'%out{i}', 8, 'double')}"
            values = f"{type} {value}" + (more if result.kind == "pycomplex" else "")
            self.keep(i, self.let(f"call ptr @{function}({values})"))

    def give_back(self) -> None:
        """Return the result, a container of them, or None."""
        spec = self.spec
        if spec.structure in ("tuple", "list"):
            value = self.let(f"call ptr @weft_pack_{spec.structure}(ptr %objects, "
                             f"i64 {len(spec.results)})")
        elif spec.structure == "single":
            value = self.field("%objects", 0)
        else:
            value = self.object("_Py_NoneStruct")
            self.do(f"call void @weft_drop(ptr %objects, i64 {len(spec.results)})")
            self.do(f"call void @Py_IncRef(ptr {value})")
        self.do(f"ret ptr {value}")


def _symbol(dim: Dim) -> str:
    """The name of a dimension that is one unknown by itself, else nothing."""
    if isinstance(dim, Size) and len(dim.terms) == 1:
        names, factor = dim.terms[0]
        return names[0] if factor == 1 and len(names) == 1 else ""
    return ""


def _itemsize(dtype: DType | None) -> int:
    return dtype.itemsize if dtype is not None else 0
