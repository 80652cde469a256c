"""Programs in programs: where their memory is, and what a loop may write in place."""

from __future__ import annotations

from weft.compiler.kernel.ir import Program
from weft.compiler.kernel.nested import Branch, Loop, leaves, map_programs
from weft.compiler.kernel.program import build_program
from weft.compiler.target import Target
from weft.compiler.text import parse
from weft.devices.conformance import control as texts


def program(text: str) -> Program:
    return build_program(parse(text), Target())


def loops(p: Program) -> list[Loop]:
    """The loops of a program, those in others too."""
    found = []
    for step in p.steps:
        if isinstance(step.kernel, (Loop, Branch)):
            found += [step.kernel] if isinstance(step.kernel, Loop) else []
            for _, inner in step.kernel.nested:
                found += loops(inner)
    return found


def scan(body: str, carries: int = 1) -> Loop:
    types = ", ".join(["f32[8]"] * carries)
    params = ", ".join(f"%c{k}: f32[8]" for k in range(carries))
    (loop,) = loops(program(f"""graph @f(%w: f32[8], {params}) -> (f32[8]) {{
      %s = scan %w, {", ".join(f"%c{k}" for k in range(carries))} {{
        body=graph @body(%w: f32[8], {params}) -> ({types}) {{ {body} }},
        consts=1, carries={carries}, length=9, reverse=false }} : ({types})
      %r = get %s {{index=0}} : f32[8]
      return %r
    }}"""))
    return loop


def test_elementwise_carries_are_written_in_place() -> None:
    loop = scan("%y = mul %c0, %w : f32[8] return %y")
    assert loop.in_place == {0} and loop.spares == {} and loop.scratch == 0


def test_what_is_read_elsewhere_needs_two_buffers() -> None:
    loop = scan("%t = reverse %c0 {axes=[0]} : f32[8] %y = mul %t, %w : f32[8] return %y")
    assert loop.in_place == frozenset() and loop.spares == {0: 0} and loop.scratch == 64
    loop = scan("%y = cumsum %c0 {axis=0} : f32[8] return %y")
    assert loop.in_place == frozenset()


def test_what_is_read_later_needs_two_buffers() -> None:
    """One carry's next value needs the other's old one."""
    loop = scan("""%y = mul %c0, %w : f32[8]  %s = reduce_sum %y {axes=[0]} : f32[]
                   %b = broadcast_in_dim %s {shape=[8], dims=[]} : f32[8]
                   %u = mul %c0, %c1 : f32[8]  %z = add %u, %b : f32[8] return %y, %z""", 2)
    assert 0 not in loop.in_place


def test_one_of_two_that_change_places_is_in_place() -> None:
    loop = scan("return %c1, %c0", 2)
    assert len(loop.in_place) == 1 and len(loop.spares) == 1


def test_updated_carries_stay_where_they_are() -> None:
    first, second = loops(program(texts.WRITES))
    assert first.owned == {0} and first.updated == {0}
    assert second.owned == {0}


def test_scratch_holds_what_is_inside() -> None:
    p = program(texts.NESTED)
    (step,) = p.steps
    branch = step.kernel
    assert isinstance(branch, Branch) and step.scratch
    assert p.by_name[step.scratch].type.size == branch.scratch == max(
        inner.arena for _, inner in branch.nested)
    while_step = next(s for s in branch.programs[1].steps if isinstance(s.kernel, Loop))
    assert while_step.kernel.scratch <= branch.programs[1].arena


def test_leaves_and_maps() -> None:
    p = program(texts.NESTED)
    assert len(list(leaves(p))) > 6
    assert all(way.startswith("k0_case branch") for _, way in leaves(p))
    assert map_programs(p, lambda inner: inner) is p
    assert "branch k0_case" in p.text() and "loop k0_branch1_k0_while" in p.text()
