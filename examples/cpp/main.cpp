// Runs an exported network on the frame of a golden folder, and compares what comes out.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <openvino/openvino.hpp>
#include <sstream>
#include "steps.hpp"

template <class Values> Values read(const std::string& path) {
    Values values(std::filesystem::file_size(path) / sizeof(values[0]), 0);
    std::ifstream(path, std::ios::binary).read((char*)values.data(), values.size() * sizeof(values[0]));
    return values;
}

template <class Values> size_t compare(const std::string& path, const Values& ours) {
    const Values golden = read<Values>(path);
    if (golden.size() != ours.size()) throw std::runtime_error(path + " has another size");
    size_t differ = 0;
    double largest = 0;
    for (size_t i = 0; i < ours.size(); ++i) {
        differ += ours[i] != golden[i];
        largest = std::max(largest, std::abs(double(ours[i]) - golden[i]));
    }
    std::cout << path << ": " << differ << " of " << ours.size() << " differ, by " << largest << " at most\n";
    return differ;
}

int main(int argc, char** argv) try {
    if (argc != 3) throw std::runtime_error("usage: golden MODEL.onnx FOLDER");
    const std::string folder = std::string(argv[2]) + "/";
    // golden.json without its punctuation: its names, and the numbers behind them.
    std::string text = read<std::string>(folder + "golden.json");
    for (char& c : text) if (std::string("{}[],:\"").find(c) != std::string::npos) c = ' ';
    std::istringstream stream(text);
    const std::vector<std::string> words{std::istream_iterator<std::string>(stream), {}};
    auto find = [&](const char* s) { return std::find(words.begin(), words.end(), s) - words.begin(); };
    auto value = [&](const char* s, int place = 0) { return std::stod(words.at(find(s) + 1 + place)); };
    auto number = [&](const char* s, int place) { return int(value(s, place)); };
    auto box_of = [&](const char* s) { return Box{number(s, 0), number(s, 1), number(s, 2), number(s, 3)}; };
    const std::string known = "grey crop_fan fit scale_percentile keep_largest fill_holes fit_ellipse";
    for (auto word = words.begin(); word != words.end(); ++word)
        if (*word == "step" && known.find(word[1]) == known.npos) throw std::runtime_error("not covered: " + word[1]);

    const Box box = box_of("box"), golden = box_of("inner");
    const Box source{0, 0, number("frame_shape", 0), number("frame_shape", 1)};
    const Box input{0, 0, number("input_shape", 2), number("input_shape", 3)};
    // Pixels that are not square are shown in their true shape.
    const auto [inner, linear] = place(box, input, value("stretch") * value("pixel_aspect"));
    if (inner.top != golden.top || inner.left != golden.left || inner.rows() != golden.rows() ||
        inner.columns() != golden.columns()) throw std::runtime_error("the frame lies elsewhere in the tensor");
    Bytes image = crop_grey(read<Bytes>(folder + "frame.raw"), source.right, number("frame_shape", 2), box);
    Bytes mask(image.size(), 255);
    if (text.find("crop_fan") != text.npos) mask = read<Bytes>(folder + "fan_mask.raw");
    for (size_t i = 0; i < image.size(); ++i) image[i] &= mask[i];
    const Floats table = read<Floats>(folder + "scale_percentile_table.raw");
    Floats tensor;
    image = fit(image, box, input, inner, linear);
    for (uint8_t value : image) tensor.push_back(table[value]);
    compare(folder + "tensor.raw", tensor);

    auto network = ov::Core().compile_model(argv[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    ov::InferRequest request = network.create_infer_request();
    request.set_input_tensor(ov::Tensor(ov::element::f32, network.input().get_shape(), tensor.data()));
    request.infer();
    const ov::Tensor output = request.get_output_tensor();
    const Floats logits(output.data<float>(), output.data<float>() + output.get_size());
    compare(folder + "logits.raw", logits);

    Bytes labels = restore(logits, number("logit_stride", 0), input, inner, source, box);
    for (int k = 1; k < number("num_classes", 0); ++k) keep_largest(labels, source.columns(), k);
    for (int k = 1; k < number("num_classes", 0); ++k) fill_holes(labels, source.columns(), k);
    for (int k = 1; k < number("num_classes", 0) && text.find("fit_ellipse") != text.npos; ++k)
        fit_ellipse(labels, source.columns(), k);
    return compare(folder + "labels.raw", labels) ? 1 : 0;
} catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 2;
}
