# Troupe's own programs: tests, examples and benchmarks.

# troupe_add_program(NAME SOURCE...): linked to the library, with its precompiled header.
function(troupe_add_program name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE troupe::troupe)
  target_precompile_headers(${name} REUSE_FROM troupe_steps)
endfunction()
