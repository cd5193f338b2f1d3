#include "slope.hpp"

int main(int argc, char** argv) {
  return troupe::main<Slope>(argc, argv);
}
