// The end of every product. Included once per instruction set, after its lanes; no
// include guard.

namespace octogate::kernels::OCTOGATE_ISA {

// Writes the outputs of a panel for one row: bias and previous value as
// FinishDot has them.
inline void FinishOutputs(F32x16 dots, const float* bias, int n, int count, bool accumulate,
                          float* y) {
  if (count == kPanelOutputs) {
    if (bias != nullptr) dots = dots + Load(bias + n);
    Store(accumulate ? Load(y) + dots : dots, y);
    return;
  }
  if (bias != nullptr) dots = dots + LoadPartial(bias + n, count);
  StorePartial(accumulate ? LoadPartial(y, count) + dots : dots, y, count);
}

}  // namespace octogate::kernels::OCTOGATE_ISA
