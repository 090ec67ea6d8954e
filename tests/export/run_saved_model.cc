// Runs the serving_default signature of a SavedModel on image files, as TensorFlow Serving does, and prints for each
// file its error, or the number of detections that score 0.3 or more and the highest score.
//
//     run_saved_model FOLDER FILE...
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/public/session.h"

int main(int argc, char** argv) {
  tensorflow::SavedModelBundle bundle;
  tensorflow::Status status = tensorflow::LoadSavedModel(tensorflow::SessionOptions(), tensorflow::RunOptions(),
                                                         argv[1], {"serve"}, &bundle);
  if (!status.ok()) {
    std::cerr << status.ToString() << std::endl;
    return 1;
  }
  const int count = argc - 2;
  tensorflow::Tensor files(tensorflow::DT_STRING, tensorflow::TensorShape({count}));
  for (int i = 0; i < count; ++i) {
    std::ifstream file(argv[i + 2], std::ios::binary);
    std::stringstream content;
    content << file.rdbuf();
    files.vec<tensorflow::tstring>()(i) = content.str();
  }
  const auto& signature = bundle.meta_graph_def.signature_def().at("serving_default");
  std::vector<tensorflow::Tensor> outputs;
  status = bundle.session->Run({{signature.inputs().at("image_bytes").name(), files}},
                               {signature.outputs().at("error").name(), signature.outputs().at("valid").name(),
                                signature.outputs().at("scores").name()},
                               {}, &outputs);
  if (!status.ok()) {
    std::cerr << status.ToString() << std::endl;
    return 1;
  }
  for (int i = 0; i < count; ++i) {
    const std::string error = outputs[0].vec<tensorflow::tstring>()(i);
    int shown = 0;
    for (int k = 0; k < outputs[1].dim_size(1); ++k) {
      shown += outputs[1].matrix<bool>()(i, k) && outputs[2].matrix<float>()(i, k) >= 0.3f;
    }
    if (error.empty()) {
      std::cout << shown << " " << outputs[2].matrix<float>()(i, 0) << std::endl;
    } else {
      std::cout << error << std::endl;
    }
  }
  return 0;
}
