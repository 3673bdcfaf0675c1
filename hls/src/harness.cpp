// SPDX-License-Identifier: Apache-2.0
//
// Drives the Verilator model of bitward_top cycle by cycle behind a C interface (python/bitward/hardware/simulate.py).
// Compiled with -DVL_USER_STOP -DVL_USER_FATAL: a failed assertion of the RTL ends the call with kFailed.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <sched.h>
#include <string>
#include <thread>
#include <type_traits>
#include <unistd.h>

#include "Vbitward_top.h"
#include "verilated.h"

namespace {

constexpr int kTimeout = -1;  // the design did not answer in time
constexpr int kFailed = -2;   // an assertion of the RTL failed
constexpr int kMore = -3;     // a stream is under way: go on
constexpr uint64_t kBusTimeout = 100000;
constexpr uint64_t kLooks = 16;  // cycles between two looks at the clock

bool failed = false;
std::string failure;

/// What a queue told of itself at a reset (bitward_fifo.sv, BITWARD_GAUGE): of the cycles since the reset before.
struct Gauge {
  uint64_t peak, held, passed, blocked, empty;
};
std::map<std::string, Gauge> gauges;    // by hierarchical name
std::map<std::string, uint32_t> limits; // how deep a queue is from the next reset on; without bounds if not named

template <typename Port>
void load(Port& port, const uint8_t* bytes, size_t count) {
  if constexpr (std::is_integral_v<Port>) {
    uint64_t value = 0;
    std::memcpy(&value, bytes, count);
    port = static_cast<Port>(value);
  } else {
    std::memcpy(&port[0], bytes, count);
  }
}

template <typename Port>
void store(const Port& port, uint8_t* bytes, size_t count) {
  if constexpr (std::is_integral_v<Port>) {
    const uint64_t value = port;
    std::memcpy(bytes, &value, count);
  } else {
    std::memcpy(bytes, &port[0], count);
  }
}

/// xorshift64*: the same stalls for the same seed on every machine.
struct Random {
  uint64_t state;
  explicit Random(uint64_t seed) : state(seed * 0x9E3779B97F4A7C15ull + 0x123456789ABCDEFull) {}
  bool below(uint32_t permille) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return permille && ((state * 0x2545F4914F6CDD1Dull) >> 33) % 1000 < permille;
  }
};

/// A stream that is under way. Either side idles in `*_stall` of 1000 cycles, and beat n is not offered before `pace` * n
/// cycles. `in_cycle` and `out_cycle` (may be null) get the cycle of each beat, `out_last` its TLAST.
struct Stream {
  const uint8_t* in = nullptr;
  uint64_t in_beats = 0, in_bytes = 0;
  uint8_t* out = nullptr;
  uint64_t out_beats = 0, out_bytes = 0;
  uint32_t in_stall = 0, out_stall = 0;
  Random random{0};
  uint64_t timeout = 0;
  double pace = 0;
  uint64_t *in_cycle = nullptr, *out_cycle = nullptr;
  uint8_t* out_last = nullptr;
  uint64_t begin = 0, sent = 0, got = 0, quiet = 0;
  bool offering = false;
};

class Model {
 public:
  explicit Model(const char* directory) : context_(new VerilatedContext), top_(new Vbitward_top(context_.get())) {
    // $readmemh runs in the first evaluation and reads files by relative names. A thread can have a working directory of
    // its own, so that others' relative names stay what they are; where the kernel refuses that, the process's is lent.
    std::thread([this, directory] {
      const bool own = unshare(CLONE_FS) == 0;
      char here[4096];
      ok_ = (own || getcwd(here, sizeof here) != nullptr) && chdir(directory) == 0;
      if (!ok_) return;
      top_->ap_clk = 0;
      top_->eval();
      ok_ = own || chdir(here) == 0;
    }).join();
    if (ok_) reset();
  }
  ~Model() { top_->final(); }

  bool ok() const { return ok_; }
  uint64_t cycles() const { return cycles_; }

  void reset() {
    idle();
    top_->ap_rst_n = 0;
    for (int i = 0; i < 16; i++) tick();
    top_->ap_rst_n = 1;
    for (int i = 0; i < 4; i++) tick();
  }

  // Addresses must lie in the map (simulate.py sees to it): Verilator takes a port's unused upper bits to be 0.
  int write(uint32_t address, uint32_t data) {
    drive(top_->s_axilite_AWADDR, address);
    top_->s_axilite_WDATA = data;
    top_->s_axilite_WSTRB = 0xF;
    top_->s_axilite_AWVALID = top_->s_axilite_WVALID = top_->s_axilite_BREADY = 1;
    for (uint64_t i = 0; i < kBusTimeout; i++) {
      settle();
      const bool address_taken = top_->s_axilite_AWVALID && top_->s_axilite_AWREADY;
      const bool data_taken = top_->s_axilite_WVALID && top_->s_axilite_WREADY;
      const bool answered = top_->s_axilite_BVALID;
      const int response = top_->s_axilite_BRESP;
      edge();
      if (failed) return kFailed;
      if (address_taken) top_->s_axilite_AWVALID = 0;
      if (data_taken) top_->s_axilite_WVALID = 0;
      if (answered) {
        top_->s_axilite_BREADY = 0;
        return response;
      }
    }
    idle();
    return kTimeout;
  }

  int read(uint32_t address, uint32_t* data) {
    drive(top_->s_axilite_ARADDR, address);
    top_->s_axilite_ARVALID = top_->s_axilite_RREADY = 1;
    for (uint64_t i = 0; i < kBusTimeout; i++) {
      settle();
      const bool taken = top_->s_axilite_ARVALID && top_->s_axilite_ARREADY;
      const bool answered = top_->s_axilite_RVALID;
      *data = top_->s_axilite_RDATA;
      const int response = top_->s_axilite_RRESP;
      edge();
      if (failed) return kFailed;
      if (taken) top_->s_axilite_ARVALID = 0;
      if (answered) {
        top_->s_axilite_RREADY = 0;
        return response;
      }
    }
    idle();
    return kTimeout;
  }

  /// Feeds beats and collects beats at once: `go_on` does, for up to `seconds` a call, as often as it says kMore.
  int stream(const Stream& wanted) {
    stream_ = wanted;
    stream_.begin = cycles_;
    return kMore;
  }
  int go_on(double seconds) {
    using Clock = std::chrono::steady_clock;
    Stream s = stream_;
    const auto ends = Clock::now() + std::chrono::duration<double>(seconds);
    for (uint64_t cycle = 1; s.sent < s.in_beats || s.got < s.out_beats; cycle++) {
      // An offered beat stays until it is taken; only a new one may be held back.
      const bool due = static_cast<double>(cycles_ - s.begin) >= s.pace * static_cast<double>(s.sent);
      if (!s.offering && s.sent < s.in_beats && due && !s.random.below(s.in_stall)) {
        load(top_->s_axis_tdata, s.in + s.sent * s.in_bytes, s.in_bytes);
        s.offering = true;
      }
      top_->s_axis_tvalid = s.offering;
      top_->m_axis_tready = s.got < s.out_beats && !s.random.below(s.out_stall);
      settle();
      const bool took_in = s.offering && top_->s_axis_tready;
      const bool took_out = top_->m_axis_tready && top_->m_axis_tvalid;
      if (took_out) {
        store(top_->m_axis_tdata, s.out + s.got * s.out_bytes, s.out_bytes);
        if (s.out_cycle) s.out_cycle[s.got] = cycles_;
        if (s.out_last) s.out_last[s.got] = top_->m_axis_tlast;
        s.got++;
      }
      if (took_in) {
        if (s.in_cycle) s.in_cycle[s.sent] = cycles_;
        s.sent++;
        s.offering = false;
      }
      edge();
      if (failed) return kFailed;
      s.quiet = took_in || took_out || !due ? 0 : s.quiet + 1;
      if (s.quiet > s.timeout) {
        idle();
        return kTimeout;
      }
      if (cycle % kLooks == 0 && Clock::now() >= ends) {
        stream_ = s;
        return kMore;
      }
    }
    idle();
    return 0;
  }

 private:
  /// An address port is as wide as the map.
  template <typename Port>
  static void drive(Port& port, uint32_t value) {
    port = static_cast<Port>(value);
  }
  /// Nothing is offered and nothing is taken while other calls let cycles pass.
  void idle() {
    top_->s_axis_tvalid = 0;
    top_->m_axis_tready = 0;
    top_->s_axilite_AWVALID = top_->s_axilite_WVALID = top_->s_axilite_ARVALID = 0;
    top_->s_axilite_BREADY = top_->s_axilite_RREADY = 0;
  }
  void settle() { top_->eval(); }
  void edge() {
    top_->ap_clk = 1;
    top_->eval();
    top_->ap_clk = 0;
    cycles_++;
  }
  void tick() {
    settle();
    edge();
  }

  std::unique_ptr<VerilatedContext> context_;
  std::unique_ptr<Vbitward_top> top_;
  uint64_t cycles_ = 0;
  Stream stream_;
  bool ok_ = false;
};

void fail(const char* file, int line, const char* message) {
  failed = true;
  failure = std::string(file ? file : "") + ":" + std::to_string(line) + ": " + (message ? message : "");
}

}  // namespace

void vl_stop(const char* file, int line, const char*) { fail(file, line, "assertion failed"); }
void vl_fatal(const char* file, int line, const char*, const char* message) { fail(file, line, message); }
void vl_finish(const char* file, int line, const char*) { fail(file, line, "$finish"); }

extern "C" {

void* bitward_open(const char* directory) {
  failed = false;
  auto model = std::make_unique<Model>(directory);
  return model->ok() ? model.release() : nullptr;
}
void bitward_close(void* model) { delete static_cast<Model*>(model); }
void bitward_reset(void* model) { static_cast<Model*>(model)->reset(); }
uint64_t bitward_cycles(void* model) { return static_cast<Model*>(model)->cycles(); }
const char* bitward_failure() { return failure.c_str(); }
int bitward_write(void* model, uint32_t address, uint32_t data) {
  return static_cast<Model*>(model)->write(address, data);
}
int bitward_read(void* model, uint32_t address, uint32_t* data) {
  return static_cast<Model*>(model)->read(address, data);
}
int bitward_stream(void* model, const uint8_t* in, uint64_t in_beats, uint64_t in_bytes, uint8_t* out,
                   uint64_t out_beats, uint64_t out_bytes, uint32_t in_stall, uint32_t out_stall, uint64_t seed,
                   uint64_t timeout, double pace, uint64_t* in_cycle, uint64_t* out_cycle, uint8_t* out_last) {
  return static_cast<Model*>(model)->stream({in, in_beats, in_bytes, out, out_beats, out_bytes, in_stall, out_stall,
                                             Random(seed), timeout, pace, in_cycle, out_cycle, out_last});
}
int bitward_go_on(void* model, double seconds) { return static_cast<Model*>(model)->go_on(seconds); }

/// Called by every queue of a gauged model when reset begins. Returns its depth from then on.
unsigned int bitward_gauge(const char* where, unsigned int peak, unsigned int held, unsigned long long passed,
                           unsigned long long blocked, unsigned long long empty) {
  gauges[where] = {peak, held, passed, blocked, empty};
  const auto limit = limits.find(where);
  return limit == limits.end() ? UINT32_MAX : limit->second;
}
void bitward_gauge_limit(const char* where, uint32_t depth) { limits[where] = depth; }
void bitward_gauge_unlimit() { limits.clear(); }
/// The gauge of that number: its name is copied, its five counts are stored. 0, or -1 where there is none.
int bitward_gauge_read(uint32_t number, char* where, uint32_t size, uint64_t* counts) {
  if (number >= gauges.size()) return -1;
  const auto& [name, gauge] = *std::next(gauges.begin(), number);
  std::snprintf(where, size, "%s", name.c_str());
  std::memcpy(counts, &gauge, sizeof gauge);
  return 0;
}
}
