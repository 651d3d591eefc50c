# Every library that kvd links, as an imported target; the Debian packages are installed by deploy/deps.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

set(KV_RAFT_MINIMUM 0.22.1)
pkg_check_modules(RAFT IMPORTED_TARGET raft)
if(NOT RAFT_FOUND)
    message(FATAL_ERROR "libraft is not installed: run deploy/deps")
endif()
if(RAFT_VERSION VERSION_LESS KV_RAFT_MINIMUM)
    message(FATAL_ERROR "libraft ${RAFT_VERSION} is too old, ${KV_RAFT_MINIMUM} is the least: older ones (Debian 12's own "
                        "0.15 among them) can lose acknowledged writes and lack the raft_step() core that kvd drives. "
                        "Run deploy/deps: it installs a newer one from the backports of your own mirror.")
endif()

pkg_check_modules(UV REQUIRED IMPORTED_TARGET libuv>=1.44)
pkg_check_modules(LZ4 REQUIRED IMPORTED_TARGET liblz4)
pkg_check_modules(PROTOBUF_C REQUIRED IMPORTED_TARGET libprotobuf-c>=1.4)
pkg_check_modules(ISAL REQUIRED IMPORTED_TARGET libisal)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(MICROHTTPD REQUIRED IMPORTED_TARGET libmicrohttpd)
pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(EDIT REQUIRED IMPORTED_TARGET libedit)
pkg_check_modules(SYSTEMD REQUIRED IMPORTED_TARGET libsystemd)
pkg_check_modules(NGHTTP2 IMPORTED_TARGET libnghttp2)
pkg_check_modules(CMOCKA IMPORTED_TARGET cmocka)
find_program(KV_PROTOC_C protoc-c REQUIRED)
