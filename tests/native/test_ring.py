"""The io_uring ring against a kernel that does not answer: waiting ends, and each byte is sent by other means, once."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: `enter` behaves as `mode` says. Two sockets get a byte each; printed: whether the ring was opened, is still open, the
#: calls of `enter`, what was told as sent, and what arrived.
PROGRAM = r"""
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>

static int mode, calls;

static long faked(long number, long a, long b, long c, long d, void* e, long f) {
  ++calls;
  if (mode == 1 && b > 0) return b;  // takes all, and tells nothing ever
  errno = EINTR;
  return -1;
}
static long faked(long number, long a, void* b) { return syscall(number, a, b); }
#define syscall faked
#include "ring.hpp"
#undef syscall

int main(int, char** arguments) {
  mode = std::atoi(arguments[1]);
  int one[2], two[2];
  socketpair(AF_UNIX, SOCK_STREAM, 0, one);
  socketpair(AF_UNIX, SOCK_STREAM, 0, two);
  headgate::Ring ring;
  const bool opened = ring.open();
  headgate::Parcel parcels[2];
  parcels[0].fd = one[0], parcels[0].data = "a";
  parcels[1].fd = two[0], parcels[1].data = "b";
  ring.send(parcels, 2);
  char got[8];
  std::string arrived;
  for (int fd : {one[1], two[1]}) {
    const ssize_t n = recv(fd, got, sizeof(got), MSG_DONTWAIT);
    arrived.append(got, n > 0 ? static_cast<size_t>(n) : 0);
  }
  std::printf("%d %d %d %zd %zd ", opened, ring.is_open(), calls, parcels[0].sent, parcels[1].sent);
  std::printf("%s\n", arrived.c_str());
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    folder = tmp_path_factory.mktemp("ring")
    (folder / "ring.cpp").write_text(PROGRAM)
    subprocess.run([compiler, "-std=c++20", f"-I{ROOT / 'csrc'}", "ring.cpp", "-o", "ring"], cwd=folder, check=True)
    return folder / "ring"


@pytest.mark.parametrize(
    ("mode", "still_open", "most_calls"),
    [
        (0, 1, 1),  # it takes nothing: the next read tries again
        (1, 0, 1 + 1000),  # it takes all and tells nothing: given up
    ],
)
def test_where_the_ring_fails_waiting_is_bounded_and_each_byte_is_sent_once(
    program: Path, mode: int, still_open: int, most_calls: int
) -> None:
    told = subprocess.run([program, str(mode)], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    if told[0] == "0":
        pytest.skip("this system lets nobody use io_uring")
    assert told[1] == str(still_open)
    assert 1 <= int(told[2]) <= most_calls
    assert told[3:] == ["1", "1", "ab"]
