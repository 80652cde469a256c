"""Functions of the native runtime that entries share, as LLVM IR: what speaks to Python.

    ptr  weft_dispatch(ptr self, ptr args, i64 nargsf, ptr kwnames)
         a vectorcall function: calls the method `_dispatch` of the callable with the arguments
    ptr  weft_failed(ptr self, i32 status, ptr args, i64 nargs)
         calls the method `_native_error(status, *args)` of the callable
    ptr  weft_new_array(ptr descr, i64 itemsize, i32 nd, ptr dims)
         a new C-contiguous array, or null with an exception set; large data lies in one of our
         recycled blocks, owned by the array all the same
    i1   weft_same_descr(ptr descr, ptr builtin)
         whether a dtype object that is not the built-in one means the same element type
    i1   weft_disjoint(ptr a, i64 itemsize, ptr b, i64 itemsize)
         whether the elements of two contiguous arrays have no byte in common
    void weft_drop(ptr objects, i64 n)
         gives up n references, of which some may be null
    ptr  weft_pack_tuple(ptr objects, i64 n), weft_pack_list(ptr objects, i64 n)
         a container that takes over the references; on failure they are given up
"""

from __future__ import annotations

from weft.devices.cpu.alloc import LARGE_BYTES
from weft.devices.cpu.python_api import ARRAY, DESCR

__all__ = ["support_ir"]

_OWNED, _NEW_FLAGS = 0x4, 0x501  # OWNDATA; C_CONTIGUOUS | ALIGNED | WRITEABLE


def support_ir() -> str:
    """The entries' part of the runtime module; needs the allocator's."""
    return _CALLS + _NEW_ARRAY + _CHECKS + _DROP + _pack("tuple", "Tuple") + _pack("list", "List")


_CALLS = """
@weft_mem_capsule = global ptr null
@weft_str__dispatch = external global i8
@weft_str__native_error = external global i8
@weft_np_array = external global i8
declare ptr @PyObject_GetAttr(ptr, ptr) nounwind
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr) nounwind
declare ptr @PyLong_FromLongLong(i64) nounwind
declare ptr @weft_np_NewFromDescr(ptr, ptr, i32, ptr, ptr, ptr, i32, ptr) nounwind
declare void @Py_IncRef(ptr) nounwind
declare void @Py_DecRef(ptr) nounwind
declare { i64, i1 } @llvm.smul.with.overflow.i64(i64, i64)

define ptr @weft_dispatch(ptr %self, ptr %args, i64 %nargsf, ptr %kwnames) nounwind {
entry:
  %method = call ptr @PyObject_GetAttr(ptr %self, ptr @weft_str__dispatch)
  %none = icmp eq ptr %method, null
  br i1 %none, label %fail, label %call
fail:
  ret ptr null
call:
  %r = call ptr @PyObject_Vectorcall(ptr %method, ptr %args, i64 %nargsf, ptr %kwnames)
  call void @Py_DecRef(ptr %method)
  ret ptr %r
}

define ptr @weft_failed(ptr %self, i32 %status, ptr %args, i64 %nargs) nounwind {
entry:
  %all = add i64 %nargs, 1
  %stack = alloca ptr, i64 %all
  %wide = sext i32 %status to i64
  %number = call ptr @PyLong_FromLongLong(i64 %wide)
  %none = icmp eq ptr %number, null
  br i1 %none, label %fail, label %look
look:
  store ptr %number, ptr %stack
  %rest = getelementptr ptr, ptr %stack, i64 1
  %bytes = mul i64 %nargs, 8
  call void @llvm.memcpy.p0.p0.i64(ptr %rest, ptr %args, i64 %bytes, i1 false)
  %method = call ptr @PyObject_GetAttr(ptr %self, ptr @weft_str__native_error)
  %missing = icmp eq ptr %method, null
  br i1 %missing, label %undo, label %call
undo:
  call void @Py_DecRef(ptr %number)
  br label %fail
fail:
  ret ptr null
call:
  %r = call ptr @PyObject_Vectorcall(ptr %method, ptr %stack, i64 %all, ptr null)
  call void @Py_DecRef(ptr %method)
  call void @Py_DecRef(ptr %number)
  ret ptr %r
}
"""

_NEW_ARRAY = f"""
define ptr @weft_new_array(ptr %descr, i64 %itemsize, i32 %nd, ptr %dims) nounwind {{
entry:
  call void @Py_IncRef(ptr %descr)
  %wide = zext i32 %nd to i64
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i1, %factor ]
  %bytes = phi i64 [ %itemsize, %entry ], [ %product, %factor ]
  %end = icmp eq i64 %i, %wide
  br i1 %end, label %sized, label %factor
factor:
  %p = getelementptr i64, ptr %dims, i64 %i
  %d = load i64, ptr %p
  %x = call {{ i64, i1 }} @llvm.smul.with.overflow.i64(i64 %bytes, i64 %d)
  %product = extractvalue {{ i64, i1 }} %x, 0
  %over = extractvalue {{ i64, i1 }} %x, 1
  %i1 = add i64 %i, 1
  br i1 %over, label %plain, label %next
sized:
  %large = icmp sge i64 %bytes, {LARGE_BYTES}
  br i1 %large, label %ours, label %plain
plain:
  %a = call ptr @weft_np_NewFromDescr(ptr @weft_np_array, ptr %descr, i32 %nd, ptr %dims, ptr null,
                                      ptr null, i32 0, ptr null)
  ret ptr %a
ours:
  %block = call ptr @weft_alloc(i64 %bytes)
  %failed = icmp eq ptr %block, null
  br i1 %failed, label %plain, label %wrap  ; NumPy will say best how much is missing
wrap:
  %b = call ptr @weft_np_NewFromDescr(ptr @weft_np_array, ptr %descr, i32 %nd, ptr %dims, ptr null,
                                      ptr %block, i32 {_NEW_FLAGS}, ptr null)
  %lost = icmp eq ptr %b, null
  br i1 %lost, label %undo, label %own
undo:
  call void @weft_free(ptr %block)
  ret ptr null
own:
  %flags_p = getelementptr i8, ptr %b, i64 {ARRAY["flags"]}
  %flags = load i32, ptr %flags_p
  %owned = or i32 %flags, {_OWNED}
  store i32 %owned, ptr %flags_p
  %handler = load ptr, ptr @weft_mem_capsule
  call void @Py_IncRef(ptr %handler)
  %handler_p = getelementptr i8, ptr %b, i64 {ARRAY["handler"]}
  store ptr %handler, ptr %handler_p
  ret ptr %b
}}
"""

_CHECKS = f"""
define i1 @weft_same_descr(ptr %descr, ptr %builtin) nounwind {{
  %o_p = getelementptr i8, ptr %descr, i64 {DESCR["byteorder"]}
  %o = load i8, ptr %o_p
  %native = icmp eq i8 %o, {ord("=")}
  %none = icmp eq i8 %o, {ord("|")}
  %order = or i1 %native, %none
  %a_p = getelementptr i8, ptr %descr, i64 {DESCR["type_num"]}
  %a = load i32, ptr %a_p
  %b_p = getelementptr i8, ptr %builtin, i64 {DESCR["type_num"]}
  %b = load i32, ptr %b_p
  %same = icmp eq i32 %a, %b
  %r = and i1 %order, %same
  ret i1 %r
}}

; One past the last byte of a contiguous array of at least one element; its start, if it has none.
define internal i64 @array_end(ptr %array, i64 %itemsize) nounwind {{
entry:
  %nd_p = getelementptr i8, ptr %array, i64 {ARRAY["nd"]}
  %nd = load i32, ptr %nd_p
  %wide = zext i32 %nd to i64
  %dims_p = getelementptr i8, ptr %array, i64 {ARRAY["dims"]}
  %dims = load ptr, ptr %dims_p
  %data_p = getelementptr i8, ptr %array, i64 {ARRAY["data"]}
  %data = load i64, ptr %data_p
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i1, %factor ]
  %bytes = phi i64 [ %itemsize, %entry ], [ %product, %factor ]
  %done = icmp eq i64 %i, %wide
  br i1 %done, label %out, label %factor
factor:
  %p = getelementptr i64, ptr %dims, i64 %i
  %d = load i64, ptr %p
  %product = mul i64 %bytes, %d
  %i1 = add i64 %i, 1
  br label %next
out:
  %end = add i64 %data, %bytes
  ret i64 %end
}}

define i1 @weft_disjoint(ptr %a, i64 %a_item, ptr %b, i64 %b_item) nounwind {{
  %a_p = getelementptr i8, ptr %a, i64 {ARRAY["data"]}
  %a_lo = load i64, ptr %a_p
  %a_hi = call i64 @array_end(ptr %a, i64 %a_item)
  %b_p = getelementptr i8, ptr %b, i64 {ARRAY["data"]}
  %b_lo = load i64, ptr %b_p
  %b_hi = call i64 @array_end(ptr %b, i64 %b_item)
  %before = icmp ule i64 %a_hi, %b_lo
  %after = icmp ule i64 %b_hi, %a_lo
  %a_none = icmp eq i64 %a_lo, %a_hi
  %b_none = icmp eq i64 %b_lo, %b_hi
  %x = or i1 %before, %after
  %y = or i1 %a_none, %b_none
  %r = or i1 %x, %y
  ret i1 %r
}}
"""

_DROP = """
define void @weft_drop(ptr %objects, i64 %n) nounwind {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i1, %step ]
  %end = icmp eq i64 %i, %n
  br i1 %end, label %out, label %look
look:
  %p = getelementptr ptr, ptr %objects, i64 %i
  %x = load ptr, ptr %p
  %null = icmp eq ptr %x, null
  br i1 %null, label %step, label %drop
drop:
  call void @Py_DecRef(ptr %x)
  br label %step
step:
  %i1 = add i64 %i, 1
  br label %next
out:
  ret void
}
"""


def _pack(kind: str, api: str) -> str:
    """`weft_pack_tuple` or `weft_pack_list`."""
    return f"""
declare ptr @Py{api}_New(i64) nounwind
declare i32 @Py{api}_SetItem(ptr, i64, ptr) nounwind
define ptr @weft_pack_{kind}(ptr %objects, i64 %n) nounwind {{
entry:
  %t = call ptr @Py{api}_New(i64 %n)
  %none = icmp eq ptr %t, null
  br i1 %none, label %fail, label %next
fail:
  call void @weft_drop(ptr %objects, i64 %n)
  ret ptr null
next:
  %i = phi i64 [ 0, %entry ], [ %i1, %put ]
  %end = icmp eq i64 %i, %n
  br i1 %end, label %out, label %put
put:
  %p = getelementptr ptr, ptr %objects, i64 %i
  %x = load ptr, ptr %p
  %r = call i32 @Py{api}_SetItem(ptr %t, i64 %i, ptr %x)
  %i1 = add i64 %i, 1
  br label %next
out:
  ret ptr %t
}}
"""
