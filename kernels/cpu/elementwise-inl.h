// Elementary functions on sixteen lanes (the scalar forms are in
// kernels/elementary.h) and the row-wise operations made of them. Included once
// per instruction set, after its f32x16_*.h, with OCTOGATE_ISA defined; no
// include guard.

namespace octogate::kernels::OCTOGATE_ISA {

inline F32x16 Exp(F32x16 x) {
  using namespace exp_constants;  // NOLINT(google-build-using-namespace)
  x = Maximum(Broadcast(kMin), Minimum(Broadcast(kMax), x));
  const F32x16 rounded = Fma(x, Broadcast(kLog2E), Broadcast(kRounder));
  const F32x16 n = rounded - Broadcast(kRounder);
  F32x16 r = Fma(n, Broadcast(-kLn2High), x);
  r = Fma(n, Broadcast(-kLn2Low), r);
  F32x16 p = Broadcast(kP4);
  p = Fma(p, r, Broadcast(kP3));
  p = Fma(p, r, Broadcast(kP2));
  p = Fma(p, r, Broadcast(kP1));
  p = Fma(p, r, Broadcast(kP0));
  return ScaleByPowerOfTwo(Fma(r * r, p, r) + Broadcast(1.0f), rounded);
}

inline F32x16 Silu(F32x16 x) { return x / (Broadcast(1.0f) + Exp(Zero() - x)); }

inline F32x16 GeluTanh(F32x16 x) {
  const F32x16 inner = Fma(Broadcast(gelu_constants::kTanhCubic), (x * x) * x, x);
  return x / (Broadcast(1.0f) + Exp(Broadcast(gelu_constants::kTanhScale) * inner));
}

inline F32x16 GeluErf(F32x16 x) {
  using namespace gelu_constants;  // NOLINT(google-build-using-namespace)
  const F32x16 a = Minimum(Broadcast(kTail), Abs(x));
  const F32x16 z = a * Broadcast(kSqrtHalf);
  const F32x16 square = z * z;
  const F32x16 error = Fma(z, z, Zero() - square);
  const F32x16 e = Exp(Zero() - square);
  const F32x16 t = Broadcast(1.0f) / Fma(Broadcast(kErfcScale), z, Broadcast(1.0f));
  F32x16 p = Broadcast(kErfc[8]);
  for (int i = 7; i >= 0; --i) p = Fma(p, t, Broadcast(kErfc[i]));
  const F32x16 tail = Broadcast(0.5f) * (Fma(Zero() - error, e, e) * (t * p));
  return Fma(Zero() - a, tail, Maximum(Zero(), x));
}

template <F32x16 (*activation)(F32x16)>
void GateMul(const float* gate, const float* up, int count, float* out) {
  int c = 0;
  for (; c + kLanes <= count; c += kLanes)
    Store(activation(Load(gate + c)) * Load(up + c), out + c);
  if (const int left = count - c; left > 0) {
    StorePartial(activation(LoadPartial(gate + c, left)) * LoadPartial(up + c, left), out + c,
                 left);
  }
}

inline void RmsNorm(const float* x, const float* weight, int columns, float epsilon, float* out) {
  const int whole = columns / kLanes * kLanes;
  const int left = columns - whole;
  F32x16 squares = Zero();
  for (int c = 0; c < whole; c += kLanes) {
    const F32x16 v = Load(x + c);
    squares = Fma(v, v, squares);
  }
  if (left > 0) {
    const F32x16 v = LoadPartial(x + whole, left);
    squares = Fma(v, v, squares);
  }
  const float mean = SumLanes(squares) / static_cast<float>(columns);
  const F32x16 scale = Broadcast(1.0f / __builtin_sqrtf(mean + epsilon));
  for (int c = 0; c < whole; c += kLanes) Store(Load(x + c) * scale * Load(weight + c), out + c);
  if (left > 0) {
    StorePartial(LoadPartial(x + whole, left) * scale * LoadPartial(weight + whole, left),
                 out + whole, left);
  }
}

inline void LayerNorm(const float* x, const float* weight, const float* bias, int columns,
                      float epsilon, float* out) {
  const int whole = columns / kLanes * kLanes;
  const int left = columns - whole;
  F32x16 sums = Zero();
  for (int c = 0; c < whole; c += kLanes) sums = sums + Load(x + c);
  if (left > 0) sums = sums + LoadPartial(x + whole, left);
  const F32x16 mean = Broadcast(SumLanes(sums) / static_cast<float>(columns));
  F32x16 squares = Zero();
  for (int c = 0; c < whole; c += kLanes) {
    const F32x16 centred = Load(x + c) - mean;
    squares = Fma(centred, centred, squares);
  }
  if (left > 0) {
    float last[kLanes];
    Store(LoadPartial(x + whole, left) - mean, last);
    const F32x16 centred = LoadPartial(last, left);
    squares = Fma(centred, centred, squares);
  }
  const float variance = SumLanes(squares) / static_cast<float>(columns);
  const F32x16 scale = Broadcast(1.0f / __builtin_sqrtf(variance + epsilon));
  for (int c = 0; c < columns; c += kLanes) {
    const int n = columns - c < kLanes ? left : kLanes;
    const auto load = [n](const float* from) {
      return n == kLanes ? Load(from) : LoadPartial(from, n);
    };
    F32x16 y = (load(x + c) - mean) * scale * load(weight + c);
    if (bias != nullptr) y = y + load(bias + c);
    n == kLanes ? Store(y, out + c) : StorePartial(y, out + c, n);
  }
}

// The largest of count values, NaNs aside; minus infinity if there is none.
inline float MaximumOf(const float* x, int count) {
  constexpr int kStreams = 4;
  F32x16 maxima[kStreams];
  for (F32x16& maximum : maxima) maximum = Broadcast(-__builtin_inff());
  int c = 0;
  for (; c + kStreams * kLanes <= count; c += kStreams * kLanes) {
    for (int i = 0; i < kStreams; ++i) {
      maxima[i] = Maximum(Load(x + c + i * kLanes), maxima[i]);
    }
  }
  for (; c + kLanes <= count; c += kLanes) maxima[0] = Maximum(Load(x + c), maxima[0]);
  for (int i = 1; i < kStreams; ++i) maxima[0] = Maximum(maxima[i], maxima[0]);
  float maximum = MaximumLane(maxima[0]);
  for (; c < count; ++c) maximum = x[c] > maximum ? x[c] : maximum;
  return maximum;
}

// The sum of exp(x - max) over one block of a row's columns.
inline float SumExp(const float* x, int count, float max, float scale) {
  const F32x16 shift = Broadcast(max);
  const F32x16 factor = Broadcast(scale);
  F32x16 sums = Zero();
  int c = 0;
  for (; c + kLanes <= count; c += kLanes) sums = sums + Exp((Load(x + c) - shift) * factor);
  if (c < count) {
    float last[kLanes];
    Store(Broadcast(-__builtin_inff()), last);
    StorePartial(LoadPartial(x + c, count - c), last, count - c);
    sums = sums + Exp((Load(last) - shift) * factor);
  }
  return SumLanes(sums);
}

template <DType T>
void WidenRow(const uint8_t* from, int count, float* to) {
  int c = 0;
  for (; c + kLanes <= count; c += kLanes) {
    Store(Widen<T>(from + static_cast<size_t>(c) * SizeOf(T)), to + c);
  }
  if (const int left = count - c; left > 0) {
    StorePartial(WidenPartial<T>(from + static_cast<size_t>(c) * SizeOf(T), left), to + c, left);
  }
}

inline void WidenAny(const uint8_t* from, DType dtype, int count, float* to) {
  switch (dtype) {
    case DType::kF32:
      return WidenRow<DType::kF32>(from, count, to);
    case DType::kF16:
      return WidenRow<DType::kF16>(from, count, to);
    case DType::kBF16:
      return WidenRow<DType::kBF16>(from, count, to);
    default:
      return;  // not a type of weights
  }
}

}  // namespace octogate::kernels::OCTOGATE_ISA
