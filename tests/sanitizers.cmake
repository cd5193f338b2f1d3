# Parts of the library, compiled once more with sanitizers. In every build: what strangers' files go through and the
# replays of captured steps, under the address and undefined sanitizers, and what threads share outside of messages, under
# the thread sanitizer. In the preset `fuzz`: the readers under libFuzzer. The whole suite has presets of its own
# (CONTRIBUTING.md).

# troupe_add_part(NAME MAIN file.cpp... SOURCES pattern... [OPTIONS option...] [LIBRARIES library...]): a program of some
# of the library's sources. The files of MAIN are compiled together as well: in an object library, which keeps what is
# said of them here from the other programs that have them.
function(troupe_add_part name)
  cmake_parse_arguments(PARSE_ARGV 1 _part "" "" "MAIN;SOURCES;OPTIONS;LIBRARIES")
  list(TRANSFORM _part_SOURCES PREPEND "${PROJECT_SOURCE_DIR}/")
  file(GLOB _sources CONFIGURE_DEPENDS ${_part_SOURCES})
  add_library(${name}_main OBJECT ${_part_MAIN})
  add_executable(${name} ${_sources})
  foreach(_target IN ITEMS ${name}_main ${name})
    target_compile_options(${_target} PRIVATE ${_part_OPTIONS})
    target_include_directories(${_target} PRIVATE "${PROJECT_SOURCE_DIR}" "${TROUPE_INCLUDE}")
    target_compile_definitions(${_target} PRIVATE "TROUPE_SOURCE_DIR=\"${PROJECT_SOURCE_DIR}\"")
    target_link_libraries(${_target} PRIVATE troupe::torch CAF::core spdlog::spdlog nlohmann_json::nlohmann_json
      Threads::Threads ZLIB::ZLIB PNG::PNG JPEG::JPEG Deflate::deflate CURL::libcurl protozero::protozero xxHash::xxhash
      tomlplusplus::headers ${_part_LIBRARIES})
    set_target_properties(${_target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 20)
  endforeach()
  target_precompile_headers(${name}_main PRIVATE "${PROJECT_SOURCE_DIR}/cmake/precompiled.hpp")
  target_precompile_headers(${name} REUSE_FROM ${name}_main)
  target_link_libraries(${name} PRIVATE ${name}_main)
endfunction()

# troupe_add_sanitized_program(NAME SANITIZERS MAIN test.cpp... SOURCES pattern...)
function(troupe_add_sanitized_program name sanitizers)
  troupe_add_part(${name} ${ARGN} OPTIONS -O0 -g1 -fsanitize=${sanitizers} -fno-omit-frame-pointer
    LIBRARIES GTest::gtest GTest::gmock)
  target_link_options(${name} PRIVATE -fsanitize=${sanitizers})
endfunction()

set(_readers base/*.cpp modules/*.cpp modules/data/*.cpp modules/layers/*.cpp modules/options/*.cpp
  modules/support/*.cpp modules/callbacks/early_stopping.cpp modules/callbacks/file_name_template.cpp
  modules/callbacks/metric_sources.cpp modules/callbacks/model_checkpoint.cpp modules/callbacks/timer.cpp
  modules/lr_schedulers/*.cpp modules/metrics/aggregation.cpp modules/metrics/checks.cpp modules/metrics/metric.cpp modules/optim/*.cpp
  runtime/checkpoint/*.cpp runtime/data/*.cpp runtime/data/*/*.cpp runtime/loops/run_state.cpp runtime/precision/*.cpp runtime/logging/log_store.cpp
  runtime/live/live_message.cpp runtime/live/prometheus.cpp runtime/process/cpu_budget.cpp runtime/process/huge_pages.cpp
  runtime/profile/*.cpp runtime/report/metric_*.cpp runtime/report/phase_report.cpp
  runtime/report/finding.cpp runtime/report/re*.cpp runtime/report/run_card.cpp runtime/report/run_owner.cpp runtime/sinks/append_file.cpp runtime/sinks/csv_line.cpp
  runtime/sinks/json_line*.cpp runtime/sinks/metric_charts.cpp runtime/sinks/http_client.cpp runtime/sinks/mlflow_client.cpp runtime/sinks/mlflow_s[pt]*.cpp
  runtime/sinks/mlflow_values.cpp runtime/sinks/sink_warning.cpp runtime/weights/*.cpp
  launch/config_file.cpp launch/option_group.cpp launch/parse_config.cpp)
set(_shared_by_threads actors/fetcher.cpp modules/batch.cpp modules/data/data_loader.cpp modules/data/sampler.cpp base/*.cpp
  modules/hooks.cpp runtime/checkpoint/atomic_write.cpp runtime/checkpoint/check*_file.cpp
  runtime/checkpoint/checksum.cpp runtime/checkpoint/file_lock.cpp runtime/checkpoint/file_system.cpp runtime/checkpoint/*safetensors*.cpp
  runtime/data/files/file_kind.cpp runtime/data/files/mapped_file.cpp
  runtime/checkpoint/snapshot_memory.cpp runtime/checkpoint/strict_json.cpp runtime/collectives/chunk_pool.cpp
  runtime/collectives/collective_*.cpp runtime/collectives/deadline_watch.cpp runtime/collectives/gather.cpp
  runtime/collectives/memory_*.cpp
  runtime/collectives/process_group.cpp runtime/collectives/reduce_kernel.cpp runtime/collectives/roll_call.cpp
  runtime/collectives/store_backend.cpp runtime/collectives/threaded_backend.cpp
  runtime/process/compute_threads.cpp runtime/process/cpu_budget.cpp runtime/process/huge_pages.cpp runtime/data/batch_maker.cpp runtime/data/epoch_plan.cpp runtime/data/keyed_permutation.cpp
  runtime/data/random.cpp runtime/device/copy_ahead.cpp runtime/fabric/fabric_loader.cpp runtime/precision/convert.cpp
  runtime/data/samplers.cpp runtime/data/tensor_dataset.cpp runtime/data/weights.cpp runtime/process/pulse.cpp
  modules/options/choices.cpp runtime/live/*.cpp runtime/checkpoint/progress_json.cpp runtime/report/metric_curves.cpp runtime/report/phase_report.cpp
  runtime/profile/*.cpp runtime/data/files/zip_archive.cpp
  modules/support/module_tensors.cpp modules/support/step_recorder.cpp runtime/capture/*.cpp
  runtime/inference/f*.cpp runtime/inference/packed_*.cpp
  runtime/sinks/append_file.cpp runtime/sinks/c*.cpp runtime/sinks/histogram.cpp runtime/sinks/metric_charts.cpp
  runtime/sinks/png.cpp runtime/sinks/tensorboard_*.cpp runtime/weights/*.cpp)

# The page, which the library's build writes.
function(troupe_add_page name)
  set_source_files_properties("${PROJECT_BINARY_DIR}/page_parts.cpp" PROPERTIES
    GENERATED ON SKIP_PRECOMPILE_HEADERS ON SKIP_UNITY_BUILD_INCLUSION ON)
  target_sources(${name} PRIVATE "${PROJECT_BINARY_DIR}/page_parts.cpp")
  add_dependencies(${name} troupe)
endfunction()

if(NOT TROUPE_SANITIZE)
  # Two tests share a program, and with it the precompiled header and most of the library's sources.
  troupe_add_sanitized_program(address_sanitizer_tests address,undefined
    MAIN support/main.cpp fuzz/readers_test.cpp launch/capture/random_networks_test.cpp runtime/capture/program_test.cpp
      runtime/capture/substitutes_test.cpp runtime/capture/products_test.cpp
    SOURCES ${_readers} runtime/capture/*.cpp)
  troupe_add_page(address_sanitizer_tests)
  add_test(NAME readers_under_address_sanitizer COMMAND address_sanitizer_tests readers_test)
  # Replays write into memory that is shared by what is in use at different times.
  add_test(NAME replays_under_address_sanitizer
    COMMAND address_sanitizer_tests random_networks_test program_test substitutes_test products_test)
  # LibTorch's own leaks, at the end of the process.
  set_tests_properties(readers_under_address_sanitizer replays_under_address_sanitizer PROPERTIES TIMEOUT 300
    LABELS sanitizers ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0;UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1")
  set_property(TEST replays_under_address_sanitizer APPEND PROPERTY ENVIRONMENT "OMP_NUM_THREADS=1")
  troupe_add_sanitized_program(threads_under_thread_sanitizer thread
    MAIN support/main.cpp actors/shared_memory_test.cpp runtime/collectives/memory_world_test.cpp
      runtime/collectives/process_group_test.cpp runtime/collectives/roll_call_test.cpp
      runtime/collectives/store_backend_test.cpp runtime/collectives/threaded_backend_test.cpp runtime/data/random_test.cpp
      runtime/fabric/fabric_loader_test.cpp runtime/inference/forward_capture_test.cpp
      runtime/live/live_test.cpp
    SOURCES ${_shared_by_threads})
  add_test(NAME threads_under_thread_sanitizer COMMAND threads_under_thread_sanitizer)
  # OpenMP's barriers are invisible to it.
  set_tests_properties(threads_under_thread_sanitizer PROPERTIES TIMEOUT 300 LABELS sanitizers ENVIRONMENT
    "TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/tsan.supp;OMP_NUM_THREADS=1")
elseif(TROUPE_SANITIZE MATCHES "fuzzer")
  # Clang 14 fails on -fsanitize=function in some sources ("Cannot represent a difference across sections").
  troupe_add_part(fuzz_readers MAIN fuzz/fuzz_readers.cpp SOURCES ${_readers} OPTIONS -fno-sanitize=function)
  troupe_add_page(fuzz_readers)
  target_link_options(fuzz_readers PRIVATE -fsanitize=fuzzer)
endif()
