#!/usr/bin/env bash
# training.sh - real training, and what it is worth beside the same network at random weights.
#
#     bench/training.sh DATA OUT [RUN]...
#
# RUN: METHOD-cifar10 or METHOD-imagenette96, as they stand below; unless told, all that results/training has.
#
# DATA holds cifar10/ (CIFAR's binary records) and photos/imagenette96/ (folders of JPEGs). Each run is
# trained (or gone on with) in OUT, then both backbones embed the training and the test set, and
# k-NN (k = 20) and the linear probe (L-BFGS) are printed. TACIT: the program, build/tacit. Needs up to two hours
# of two cores for each; results stand in results/training.
set -euo pipefail
data=${1:?the folder of the data} out=${2:?the folder of the runs}
shift 2
tacit=${TACIT:-$(dirname "$0")/../build/tacit}
mkdir -p "$out"

# score NAME BACKBONE TRAIN TEST FEATURES, at $side pixels
score() {
    local part
    for part in "$3" "$4"; do
        "$tacit" extract --weights "$2" --images "$part" --features "$5" --batch 32 --resume \
            --size "$side" --out "$out/$1.$(basename "$part").$5" 2>/dev/null
    done
    set -- "$1" "$out/$1.$(basename "$3").$5" "$out/$1.$(basename "$4").$5" "$5"
    printf '%s, %s: k-NN (k = 20) %s %%, linear probe %s %%\n' "$1" "$4" \
        "$("$tacit" knn --train "$2" --test "$3" --k 20 | awk '$1 == 20 && NF == 5 { print $2; exit }')" \
        "$("$tacit" probe --train "$2" --test "$3" ${sweep[@]+"${sweep[@]}"} | awk '$1 == "test" { top1 = $2 } END { print top1 }')"
}

# run NAME METHOD TRAIN TEST FEATURES OPTION...
run() {
    local name=$1 method=$2 train=$3 test=$4 features=$5
    shift 5
    "$tacit" pretrain "$method" --images "$train" --out "$out/$name" --seed 1 --resume "$@"
    "$tacit" pretrain "$method" --images "$train" --out "$out/$name-random" --seed 1 --resume "$@" \
        --epochs 0 --set warmup_epochs=0 2>/dev/null
    for features in $features; do
        score "$name" "$out/$name/backbone.safetensors" "$train" "$test" "$features"
        score "$name-random" "$out/$name-random/backbone.safetensors" "$train" "$test" "$features"
    done
}

# joint NAME: small batches, so that many steps fit into the time. Of CIFAR-10's images of 32 pixels it sees
# crops at 24, which is faster still, and objects are larger in a crop than in the image, which is what the
# scores are of (Touvron et al. 2019, arXiv:1906.06423).
joint() {
    local name=$1 train test options=(--preset quick --batch 64 --set lr=8e-3 --set log_steps=50)
    local colours=(--set jitter=0.5 --set brightness=0.8 --set contrast=0.8 --set saturation=0.8 --set hue=0.2
        --set solarise_second=0)
    case $name in
    *-cifar10)
        train=$data/cifar10/train_20k.bin test=$data/cifar10/test_5k.bin
        options+=(--epochs 14 --set size=24)
        ;;
    *)
        train=$data/photos/imagenette96/train test=$data/photos/imagenette96/val
        options+=(--epochs 25 --set arch=resnet18 --set dim=32 --set depth=1 --set size=64)
        ;;
    esac
    case $name in
    moco-cifar10 | deepcluster-cifar10 | byol-cifar10) options+=(--epochs 12) ;;
    esac
    case $name in
    moco-imagenette96) options+=(--epochs 32 --set zero_init=true) ;;
    byol-*) options+=(--set lr=1.2e-2 --set target_momentum=0.95 "${colours[@]}") ;;
    dino-*) options+=(--set teacher_momentum=0.95 --set head_norm=true "${colours[@]}") ;;
    barlow-* | vicreg-*) options+=(--set jitter=0.7 --set solarise_second=0) ;;
    swav-*) options+=(--set prototypes=512 --set epsilon=0.03) ;;
    esac
    run "$name" "${name%%-*}" "$train" "$test" mean "${options[@]}"
}

# masked NAME: small ViTs, mostly of 16 patches, for many epochs. MaskFeat predicts features of the default backbone,
# and BEiT tokens that were distilled from it; SimMIM and I-JEPA see the images alone. The probe's sweep goes further, as features that hardly differ
# between images want less decay.
masked() {
    local name=$1 train test patch options=(--preset small32 --batch 64 --set crop_min=0.4 --set drop_path=0
        --set log_steps=50)
    local sweep=(--c 1,10,100,1e3,1e4,1e5,1e6)
    case $name in
    *-cifar10) train=$data/cifar10/train_20k.bin test=$data/cifar10/test_5k.bin patch=8 ;;
    *)
        train=$data/photos/imagenette96/train test=$data/photos/imagenette96/val patch=16
        options+=(--set size=64)
        ;;
    esac
    case $name in
    beit-cifar10) options+=(--set dim=128 --set depth=4 --set heads=4) ;;
    beit-*) options+=(--set patch=8 --set dim=128 --set depth=4 --set heads=4) ;;
    simmim-cifar10) options+=(--set size=64 --set patch=16 --set dim=192 --set depth=6 --set heads=3) ;;
    ijepa-cifar10) options+=(--set size=64 --set patch=16 --set dim=96 --set depth=6 --set heads=3) ;;
    ijepa-*) options+=(--set size=96 --set patch=16 --set dim=192 --set depth=6 --set heads=3) ;;
    *) options+=(--set patch="$patch" --set dim=192 --set depth=6 --set heads=3) ;;
    esac
    case $name in
    simmim-cifar10)
        options+=(--epochs 80 --set warmup_epochs=2 --set mask_unit=16 --set norm_target=17 --set layer_scale=0
            --set lr=6e-3)
        ;;
    simmim-*) options+=(--epochs 48 --set warmup_epochs=2 --set mask_unit=16 --set layer_scale=0 --set lr=4e-3) ;;
    maskfeat-cifar10)
        options+=(--epochs 10 --set warmup_epochs=1 --set target=default --set mask_ratio=0.5 --set lr=4e-3)
        ;;
    maskfeat-*)
        options+=(--epochs 24 --set warmup_epochs=2 --set target=default --set mask_ratio=0.5 --set lr=4e-3)
        ;;
    beit-*)
        "$tacit" tokenizer train vqkd --images "$train" --out "$out/$name-tokenizer" --seed 1 --resume \
            --preset small32 --batch 64 --set depth=4 --epochs 3 --set warmup_epochs=0.3 --set log_steps=50
        options+=(--epochs 10 --set warmup_epochs=1 --set layer_scale=0 --set jitter=0 --set lr=6e-3
            --set "tokenizer=$out/$name-tokenizer/tokenizer.safetensors")
        ;;
    ijepa-*) options+=(--set lr_start=3e-5 --set predictor_heads=3 --set min_keep=3 --set flip=0.5) ;;&
    ijepa-cifar10)
        options+=(--epochs 100 --set warmup_epochs=5 --set lr=6e-4 --set predictor_dim=48 --set target_min=0.25
            --set target_max=0.3)
        ;;
    ijepa-*) options+=(--epochs 24 --set warmup_epochs=2 --set lr=3e-4) ;;
    esac
    run "$name" "${name%%-*}" "$train" "$test" mean "${options[@]}"
}

[ $# -gt 0 ] || set -- {simclr,moco,swav,deepcluster,byol,dino,barlow,vicreg,mae,maskfeat,beit,simmim,ijepa,dvae}-cifar10 \
    {moco,swav,byol,vicreg,mae,maskfeat,beit,simmim,ijepa}-imagenette96
for name; do
    case $name in
    simmim-cifar10 | ijepa-cifar10) side=64 ;;
    ijepa-*) side=96 ;;
    *-cifar10) side=32 ;;
    *) side=64 ;;
    esac
    case $name in
    simclr-cifar10)
        run "$name" simclr "$data/cifar10/train_20k.bin" "$data/cifar10/test_5k.bin" mean \
            --preset quick --epochs 34 --set log_steps=20
        ;;
    mae-cifar10)
        run "$name" mae "$data/cifar10/train_20k.bin" "$data/cifar10/test_5k.bin" 'cls mean' \
            --preset small32 --epochs 24 --batch 64 --set warmup_epochs=1 --set lr=4e-3 \
            --set decoder_dim=64 --set decoder_depth=2 --set decoder_heads=2 --set crop_min=0.4 \
            --set log_steps=50
        ;;
    mae-imagenette96)
        run "$name" mae "$data/photos/imagenette96/train" "$data/photos/imagenette96/val" 'cls mean' \
            --preset small32 --epochs 24 --batch 64 --set size=64 --set patch=8 --set dim=192 \
            --set depth=6 --set heads=3 --set warmup_epochs=2 --set lr=4e-3 --set decoder_dim=96 \
            --set decoder_heads=3 --set crop_min=0.4 --set log_steps=50
        ;;
    dvae-cifar10) # BEiT's first tokenizer, and what it makes again of photos that it has not seen
        "$tacit" tokenizer train dvae --images "$data/cifar10/train_20k.bin" --out "$out/$name" --seed 1 --resume \
            --preset quick --epochs 8 --set lr=1e-3 --set lr_final=1e-5 --set log_steps=50
        "$tacit" reconstruct "$out/$name" --images "$(dirname "$0")/../demo/photos" --out "$out/$name.png" --columns 4
        ;;
    simmim-cifar10 | maskfeat-cifar10 | beit-cifar10 | ijepa-cifar10 | \
        simmim-imagenette96 | maskfeat-imagenette96 | beit-imagenette96 | ijepa-imagenette96)
        masked "$name"
        ;;
    *-cifar10 | *-imagenette96) joint "$name" ;;
    *) echo "training.sh: no run '$name'" >&2; exit 2 ;;
    esac
done
