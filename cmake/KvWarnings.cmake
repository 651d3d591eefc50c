# Flags that all of our own targets share.
add_library(kv_flags INTERFACE)
target_compile_definitions(kv_flags INTERFACE _POSIX_C_SOURCE=200809L)
target_compile_options(kv_flags INTERFACE
    -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef
    -Wwrite-strings -Wformat=2 -Wconversion -Wno-sign-conversion -fno-strict-aliasing -fno-common
    -ffp-contract=off)
target_include_directories(kv_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
option(KV_WERROR "Warnings are errors" OFF)
if(KV_WERROR)
    target_compile_options(kv_flags INTERFACE -Werror)
endif()
# Counts how often rare paths are taken (common/reached.h): for the simulator.
option(KV_REACHED "Count rare paths" OFF)
if(KV_REACHED)
    target_compile_definitions(kv_flags INTERFACE KV_REACHED_ENABLED)
endif()
