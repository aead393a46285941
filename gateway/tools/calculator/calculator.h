#ifndef OCTOGATE_GATEWAY_TOOLS_CALCULATOR_CALCULATOR_H_
#define OCTOGATE_GATEWAY_TOOLS_CALCULATOR_CALCULATOR_H_

#include "gateway/tools/tool.h"

namespace octogate::gateway {

// `calculator`: exact arithmetic on the expression in a query ("what is 15% of 80?" is "12").
//
// Answers: an exact result is printed exactly ("0.3", "2432902008176640000"); a fraction that does
// not terminate with its decimal form ("1/3 ≈ 0.33333333333333333333"); an irrational result after
// "≈", every printed digit correct. Syntax: calculator/parser.h and calculator/lexer.h; sizes that
// are refused: calculator/limits.h. Mistakes in the expression, division by zero and arguments
// outside a function's domain are INVALID_ARGUMENT, limits RESOURCE_EXHAUSTED, both with the
// column.
//
// Parameters: `digits`, the significant digits of rounded results, 1 to 1000, 20 by default.
ToolInfo CalculatorToolInfo();

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_TOOLS_CALCULATOR_CALCULATOR_H_
