// Sends to many sockets in one system call: io_uring, where the kernel has it and lets us; else a call each.
#pragma once
#include <sys/socket.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>

#if __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(IORING_FEAT_SUBMIT_STABLE) && defined(SYS_io_uring_setup)
#define HEADGATE_IO_URING 1
#endif

namespace headgate {

// Bytes for one socket; where `fd` is -1 they are not to be sent here.
struct Parcel {
  int fd = -1;
  ssize_t sent = 0;  // as of `send`, but below 0 for any error
  std::string data;
};

inline constexpr int kSendFlags = MSG_DONTWAIT | MSG_NOSIGNAL;

inline ssize_t send_now(int fd, const char* data, size_t size) {
  return ::send(fd, data, size, kSendFlags);
}

inline void send_each(Parcel* parcels, size_t n) {
  for (Parcel* it = parcels; it != parcels + n; ++it) {
    if (it->fd >= 0) it->sent = send_now(it->fd, it->data.data(), it->data.size());
  }
}

#ifdef HEADGATE_IO_URING

// The plainest ring there is: no kernel thread, nothing registered, nothing left under way. A send that must not wait
// is done within the call that submits it, in this thread's time; how it went is read before `send` returns.
class Ring {
 public:
  Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() { close(); }

  bool is_open() const { return sq_tail_ != nullptr; }

  // False where the kernel has no io_uring, or somebody forbids it.
  bool open() {
    io_uring_params about{};
    fd_ = static_cast<int>(::syscall(SYS_io_uring_setup, kEntries, &about));
    const uint32_t needed = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_SUBMIT_STABLE;
    if (fd_ >= 0 && (about.features & needed) == needed && map_all(about)) return true;
    close();
    return false;
  }

  // Sets `sent` of all that have an `fd`. No two may be for one socket: the second might pass the first.
  void send(Parcel* parcels, size_t n) {
    for (size_t at = 0; at < n; at += kEntries) send_some(parcels + at, std::min<size_t>(kEntries, n - at));
  }

 private:
  static constexpr uint32_t kEntries = 256;   // a power of two
  static constexpr ssize_t kNotTold = -4096;  // no errno is
  static constexpr int kMostFailures = 1000;  // of waiting for what was taken: interruptions, a kernel short of memory

  bool map_all(const io_uring_params& about) {
    rings_size_ = std::max<size_t>(about.sq_off.array + about.sq_entries * sizeof(uint32_t),
                                   about.cq_off.cqes + about.cq_entries * sizeof(io_uring_cqe));
    rings_ = static_cast<char*>(map(rings_size_, IORING_OFF_SQ_RING));
    entries_ = static_cast<io_uring_sqe*>(map(kEntries * sizeof(io_uring_sqe), IORING_OFF_SQES));
    if (!rings_ || !entries_) return false;
    for (uint32_t i = 0; i < kEntries; ++i) at(about.sq_off.array)[i] = i;
    cq_head_ = at(about.cq_off.head);
    cq_tail_ = at(about.cq_off.tail);
    cq_mask_ = about.cq_entries - 1;
    results_ = reinterpret_cast<io_uring_cqe*>(rings_ + about.cq_off.cqes);
    sq_tail_ = at(about.sq_off.tail);
    return true;
  }

  void* map(size_t size, off_t what) const {
    void* out = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_, what);
    if (out == MAP_FAILED) return nullptr;
    ::madvise(out, size, MADV_DONTFORK);
    return out;
  }

  uint32_t* at(uint32_t offset) const { return reinterpret_cast<uint32_t*>(rings_ + offset); }

  void close() {
    if (rings_) ::munmap(rings_, rings_size_);
    if (entries_) ::munmap(entries_, kEntries * sizeof(io_uring_sqe));
    if (fd_ >= 0) ::close(fd_);
    rings_ = nullptr, entries_ = nullptr, sq_tail_ = nullptr, fd_ = -1;
  }

  void send_some(Parcel* parcels, size_t n) {
    uint32_t filled = 0;
    for (size_t i = 0; i < n && is_open(); ++i) {
      if (parcels[i].fd < 0) continue;
      parcels[i].sent = kNotTold;
      fill(*sq_tail_ + filled++, parcels[i]);
    }
    if (filled < 2) return send_each(parcels, n);
    if (submit(filled)) return;
    for (size_t i = 0; i < n; ++i) {
      if (parcels[i].sent == kNotTold) send_each(parcels + i, 1);
    }
  }

  void fill(uint32_t number, Parcel& parcel) {
    io_uring_sqe& entry = entries_[number & (kEntries - 1)];
    entry = {};
    entry.opcode = IORING_OP_SEND;
    entry.fd = parcel.fd;
    entry.addr = reinterpret_cast<uint64_t>(parcel.data.data());
    entry.len = static_cast<uint32_t>(parcel.data.size());
    entry.msg_flags = kSendFlags;
    entry.user_data = reinterpret_cast<uint64_t>(&parcel);
  }

  // Whether the kernel has taken them all. What it has taken is told; the rest is taken back.
  bool submit(uint32_t filled) {
    const uint32_t begun = *sq_tail_;
    uint32_t taken = 0, told = 0;
    __atomic_store_n(sq_tail_, begun + filled, __ATOMIC_RELEASE);
    while (taken < filled) {
      const long more = enter(filled - taken, 0);
      if (more <= 0) break;
      taken += static_cast<uint32_t>(more);
      told += read_results();
    }
    __atomic_store_n(sq_tail_, begun + taken, __ATOMIC_RELEASE);
    for (int failures = 0; told < taken && failures < kMostFailures;) {
      failures += enter(0, 1) < 0;
      told += read_results();
    }
    if (told < taken) close();  // a ring that tells nothing: from now on by `send`, what it keeps back too
    return told == filled;
  }

  long enter(uint32_t submitted, uint32_t awaited) const {
    return ::syscall(SYS_io_uring_enter, fd_, submitted, awaited, awaited ? IORING_ENTER_GETEVENTS : 0, nullptr, 0);
  }

  uint32_t read_results() {
    const uint32_t begun = *cq_head_, end = __atomic_load_n(cq_tail_, __ATOMIC_ACQUIRE);
    for (uint32_t i = begun; i != end; ++i) {
      const io_uring_cqe& result = results_[i & cq_mask_];
      reinterpret_cast<Parcel*>(result.user_data)->sent = result.res;
    }
    __atomic_store_n(cq_head_, end, __ATOMIC_RELEASE);
    return end - begun;
  }

  int fd_ = -1;
  char* rings_ = nullptr;
  size_t rings_size_ = 0;
  io_uring_sqe* entries_ = nullptr;
  uint32_t* sq_tail_ = nullptr;
  uint32_t* cq_head_ = nullptr;
  uint32_t* cq_tail_ = nullptr;
  uint32_t cq_mask_ = 0;
  io_uring_cqe* results_ = nullptr;
};

#else

class Ring {
 public:
  bool is_open() const { return false; }
  bool open() { return false; }
  void send(Parcel* parcels, size_t n) { send_each(parcels, n); }
};

#endif

}  // namespace headgate
